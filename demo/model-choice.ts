// Which model the page runs: the embedded one, one named in the address or the dialog, or files of this device.
import type { ModelLocation } from "../src/index";
import { formatBytes } from "./wording";

export type ModelChoice =
  | { readonly kind: "embedded" }
  /** "owner/name", "owner/name/file.gguf", or a URL. */
  | { readonly kind: "named"; readonly name: string }
  | { readonly kind: "files"; readonly files: readonly File[] };

export const EMBEDDED: ModelChoice = { kind: "embedded" };
export const EMBEDDED_TITLE = "SmolLM2 Crescendo 64M";
export const EMBEDDED_BYTES = 39_886_784;
export const EMBEDDED_PATH = "models/smollm2-crescendo-64m/smollm2-crescendo-64m-q4_0.gguf";

/** The choice in the page's address: `?model=` and `?hub=`. */
export function readAddress(address: URL): { readonly choice: ModelChoice; readonly hubEndpoint: string | null } {
  const name = address.searchParams.get("model")?.trim();
  return { choice: name ? { kind: "named", name } : EMBEDDED, hubEndpoint: address.searchParams.get("hub") };
}

/** `?plan=` in the page's address: "whole" loads all at once, for comparison. */
export function readPlan(address: URL): "auto" | "whole" {
  return address.searchParams.get("plan") === "whole" ? "whole" : "auto";
}

/** The address that restores this choice. Local files have no address of their own; the page's plain address is used. */
export function writeAddress(address: URL, choice: ModelChoice): URL {
  const next = new URL(address);
  next.searchParams.delete("model");
  if (choice.kind === "named") next.searchParams.set("model", choice.name);
  return next;
}

/** @param base The page's own address: it may be hosted under any path. */
export function locationOf(choice: ModelChoice, base: string): ModelLocation {
  switch (choice.kind) {
    case "embedded":
      return new URL(EMBEDDED_PATH, base);
    case "named":
      return choice.name;
    case "files":
      return choice.files;
    default:
      return choice satisfies never;
  }
}

export function titleOf(choice: ModelChoice): string {
  switch (choice.kind) {
    case "embedded":
      return EMBEDDED_TITLE;
    case "named":
      return choice.name.split(/[?#]/, 1)[0]?.split("/").filter(Boolean).slice(-2).join("/") ?? choice.name;
    case "files":
      return (choice.files.find(({ name }) => /\.(gguf|safetensors)$/i.test(name)) ?? choice.files[0])?.name ?? "no files";
    default:
      return choice satisfies never;
  }
}

/** What to expect of the model's answers, in one sentence. */
export function remarkOn(choice: ModelChoice): string {
  return choice.kind === "embedded" ? "A very small model: fluent, often wrong." : "Language models make things up: check what matters.";
}

export function describeEmbedded(): string {
  return `${formatBytes(EMBEDDED_BYTES)}. ${remarkOn(EMBEDDED)}`;
}
