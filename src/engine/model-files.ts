// Where a model's files are: a hub repository, a folder on a server, files that a visitor dropped. Each opens by name.
import { openBlob } from "../bytes/blob-source";
import type { ByteEventListener, ByteSource } from "../bytes/byte-source";
import { openHttp } from "../bytes/http-source";
import { openCachedHttp } from "../bytes/opfs-cache";
import { LlmError } from "../errors";

export interface ModelFiles {
  /** For messages: the repository, the URL, the file. */
  readonly name: string;
  /** The weights' file, where the location names one (a GGUF, or one .safetensors). */
  readonly weightsFile: string | null;
  /** Opens a file by its name beside the weights; null when there is none. @throws LlmError of the source. */
  open(file: string, signal?: AbortSignal): Promise<ByteSource | null>;
}

export interface FetchOptions {
  /** Of the hub; "https://huggingface.co" unless given. */
  readonly hubEndpoint?: string;
  /** Commit, branch or tag of a hub repository. Default "main". */
  readonly revision?: string;
  /** Sent with each request, e.g. `Authorization: Bearer …` for a gated repository. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly fetch?: typeof fetch;
  /** Keep what is downloaded in OPFS, so that the next visit starts without network. Default true where OPFS is. */
  readonly cache?: boolean;
  readonly onEvent?: ByteEventListener;
}

const HUB_ENDPOINT = "https://huggingface.co";
const HUB_REPOSITORY = /^[\w.-]+\/[\w.-]+$/;
const WEIGHTS_FILE = /\.(gguf|safetensors)$/i;

/**
 * The files of `location`: "owner/name" or "owner/name/file.gguf" on a hub, a URL (absolute, or beginning with "/" or ".") of a weights file or
 * of the folder that holds config.json.
 *
 * @throws LlmError "bad-request" when it is neither.
 */
export function locateModel(location: string | URL, options: FetchOptions = {}): ModelFiles {
  const text = String(location);
  if (location instanceof URL || /^(https?:|blob:|[./])/.test(text)) return urlFiles(new URL(text, globalThis.location?.href), options);
  const [owner = "", name = "", ...path] = text.split("/");
  const repository = `${owner}/${name}`;
  if (!HUB_REPOSITORY.test(repository)) {
    throw new LlmError(
      "bad-request",
      `"${text}" is no model: expected "owner/name" of a hub repository, "owner/name/file.gguf", or a URL.`,
    );
  }
  const { hubEndpoint = HUB_ENDPOINT, revision = "main" } = options;
  const file = path.length > 0 ? path.join("/") : "";
  const base = new URL(`${repository}/resolve/${encodeURIComponent(revision)}/${file}`, `${hubEndpoint}/`);
  return { ...urlFiles(base, { ...options, isImmutable: /^[0-9a-f]{40}$/.test(revision) }), name: text };
}

function urlFiles(url: URL, options: FetchOptions & { readonly isImmutable?: boolean }): ModelFiles {
  const fileName = decodeURIComponent(url.pathname.slice(url.pathname.lastIndexOf("/") + 1));
  const isFile = WEIGHTS_FILE.test(fileName);
  // A folder's URL may come without its last slash.
  const folder = isFile || url.pathname.endsWith("/") ? new URL(".", url) : new URL(`${url.pathname}/`, url);
  const { fetch, headers, onEvent, cache = typeof navigator !== "undefined" && "storage" in navigator } = options;
  return {
    name: url.href,
    weightsFile: isFile ? fileName : null,
    open: (file, signal) => {
      const target = new URL(file, folder);
      target.search = url.search;
      const http = { ...(fetch && { fetch }), ...(headers && { headers }), ...(onEvent && { onEvent }), ...(signal && { signal }) };
      return unlessMissing(
        cache ? openCachedHttp(target.href, { ...http, immutable: options.isImmutable ?? false }) : openHttp(target.href, http),
      );
    },
  };
}

/**
 * Files that a visitor chose or dropped: one GGUF, or a folder's config.json, tokenizer.json and safetensors.
 *
 * @throws LlmError "bad-request" when there are no weights among them.
 */
export function droppedFiles(files: readonly File[], onEvent?: ByteEventListener): ModelFiles {
  const weights = files.filter(({ name }) => WEIGHTS_FILE.test(name));
  const gguf = weights.filter(({ name }) => /\.gguf$/i.test(name));
  const [first] = weights;
  if (!first) {
    const found = files.map(({ name }) => name).join(", ") || "nothing";
    throw new LlmError(
      "bad-request",
      `No weights among the files (${found}): expected a .gguf, or config.json, tokenizer.json and .safetensors.`,
    );
  }
  if (gguf.length > 1) throw new LlmError("bad-request", `Several GGUF files (${gguf.map(({ name }) => name).join(", ")}): drop one.`);
  return {
    name: first.name,
    weightsFile: gguf[0]?.name ?? (weights.length === 1 ? first.name : null),
    open: async (name) => {
      const file = files.find((candidate) => candidate.name === name);
      return file ? openBlob(file, { ...(onEvent && { onEvent }) }) : null;
    },
  };
}

async function unlessMissing(opening: Promise<ByteSource>): Promise<ByteSource | null> {
  try {
    return await opening;
  } catch (error) {
    if (error instanceof LlmError && error.code === "not-found") return null;
    throw error;
  }
}
