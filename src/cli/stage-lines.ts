// Formats stage events, one line each: words for people, or named figures for scripts.
import type { EngineEvent } from "../index";
import { LlmError } from "../index";

/** null for other events, and for the only stage of a model that loads whole. */
export function stageLine(event: EngineEvent): string | null {
  switch (event.type) {
    case "stage-ready": {
      const { name, index, bytes, quality } = event.stage;
      return index === 0 && event.isLast ? null : line(event.type, { stage: name, bytes, quality: quality ?? "not measured" });
    }
    case "upgrade-start":
      return line(event.type, { stage: event.stage.name, policy: event.policy });
    case "upgrade-end": {
      const { type, stage, ...report } = event;
      return line(type, { stage: stage.name, ...report });
    }
    case "upgrade-failed":
      return line(event.type, { stage: event.stage.name, error: errorWords(event.error) });
    default:
      return null;
  }
}

function line(type: string, figures: Readonly<Record<string, unknown>>): string {
  const words = Object.entries(figures).map(([name, value]) => `${name}=${figure(value)}`);
  return [type, ...words].join(" ");
}

function figure(value: unknown): string {
  return JSON.stringify(typeof value === "number" && !Number.isInteger(value) ? Number(value.toFixed(2)) : value);
}

function errorWords(error: unknown): string {
  if (error instanceof LlmError) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
