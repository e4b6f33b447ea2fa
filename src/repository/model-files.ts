// Where a model's files are: a hub repository, a folder on a server, files that a visitor dropped. Each opens by name.
import { openBlob } from "../bytes/blob-source";
import type { ByteEventListener, ByteRange, ByteSource } from "../bytes/byte-source";
import { absoluteUrl } from "../bytes/http-client";
import { openHttp } from "../bytes/http-source";
import { openCachedHttp } from "../bytes/opfs-cache";
import { type FileHashes, verifySource } from "../bytes/verified-source";
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
const HUB_NAME = /^\w[\w.-]*$/;
const URL_LIKE = /^([a-z][a-z\d+.-]*:|[./])/i; // has a scheme, or is relative to the page
const COMMIT = /^[0-9a-f]{40}$/;
const WEIGHTS_FILE = /\.(gguf|safetensors)$/i;

/**
 * The files of `location`: "owner/name" or "owner/name/file.gguf" on a hub, a URL (absolute, or beginning with "/" or ".") of a weights file or
 * of the folder that holds config.json. A URL's query goes with the request for each file.
 *
 * @throws LlmError "bad-request" when it is neither.
 */
export function locateModel(location: string | URL, options: FetchOptions = {}): ModelFiles {
  const text = String(location);
  if (URL_LIKE.test(text)) return urlFiles(httpUrl(text), options);
  const [owner = "", name = "", ...path] = text.split("/");
  if (!HUB_NAME.test(owner) || !HUB_NAME.test(name) || path.includes(".") || path.includes("..")) {
    throw new LlmError(
      "bad-request",
      `"${text}" is no model: expected "owner/name" of a hub repository, "owner/name/file.gguf", or a URL.`,
    );
  }
  const { hubEndpoint = HUB_ENDPOINT, revision = "main" } = options;
  const segments = [owner, name, "resolve", ...[revision, ...path].map(encodeURIComponent)];
  const url = httpUrl(`${hubEndpoint.replace(/\/+$/, "")}/${segments.join("/")}`);
  return { ...urlFiles(url, { ...options, isImmutable: COMMIT.test(revision) }), name: text };
}

function httpUrl(text: string): URL {
  const url = new URL(absoluteUrl(text));
  if (/^https?:$/.test(url.protocol)) return url;
  throw new LlmError("bad-request", `"${text}" begins with "${url.protocol}": expected http or https. A file is passed as a File.`);
}

function urlFiles(url: URL, options: FetchOptions & { readonly isImmutable?: boolean }): ModelFiles {
  const { pathname } = url;
  const fileName = pathname.slice(pathname.lastIndexOf("/") + 1);
  const isFile = WEIGHTS_FILE.test(fileName);
  // A folder's URL may come without its last slash.
  const folder = isFile || fileName === "" ? pathname.slice(0, pathname.length - fileName.length) : `${pathname}/`;
  const { fetch, headers, onEvent, cache = typeof navigator !== "undefined" && "storage" in navigator } = options;
  return {
    name: url.href,
    weightsFile: isFile ? fileName : null,
    open: (file, signal) => {
      const target = new URL(url);
      target.pathname = folder + file;
      target.hash = "";
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
  const weightsFile = gguf[0]?.name ?? (weights.length === 1 ? first.name : null);
  return {
    name: weightsFile ?? first.name,
    weightsFile,
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

/** `files`, those with hashes checked against them as they are read. */
export function verifiedFiles(
  files: ModelFiles,
  hashes: ReadonlyMap<string, FileHashes>,
  onMismatch: (file: string, range: ByteRange) => void,
): ModelFiles {
  return {
    ...files,
    open: async (file, signal) => {
      const source = await files.open(file, signal);
      const expected = hashes.get(file);
      return source && expected ? verifySource(source, expected, { onMismatch: (range) => onMismatch(source.name, range) }) : source;
    },
  };
}
