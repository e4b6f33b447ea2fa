// Where a model's files are: a hub repository, a folder on a server, files that a visitor dropped. Each opens by name.
import type { ByteEventListener, ByteRange, ByteSource } from "../bytes/byte-source";
import type { HttpOptions } from "../bytes/http-client";
import { openHttp } from "../bytes/http-source";
import { openCachedHttp } from "../bytes/opfs-cache";
import { type FileHashes, verifySource } from "../bytes/verified-source";
import { LlmError } from "../errors";
import { droppedFiles } from "./dropped-files";
import type { ModelFiles } from "./file-answer";
import { addressOf, type HubOptions, isWeightsFile, type ModelAddress } from "./model-address";

export { droppedFiles, type ModelFiles };

export interface FetchOptions extends HubOptions {
  /** Sent with each request, e.g. `Authorization: Bearer …` for a gated repository. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly fetch?: typeof fetch;
  /** Keep what is downloaded in OPFS, so that the next visit starts without network. Default true where OPFS is. */
  readonly cache?: boolean;
  readonly onEvent?: ByteEventListener;
}

/** "owner/name", "owner/name/file.gguf", a URL, a dropped file or a folder's files, or a place of the application's own. */
export type ModelLocation = string | URL | File | readonly File[] | ModelFiles;

/** The files of whatever names a model. @throws LlmError "bad-request" when it names none. */
export function modelFiles(location: ModelLocation, options: FetchOptions = {}): ModelFiles {
  if (typeof location === "string" || location instanceof URL) return locateModel(location, options);
  if (Array.isArray(location)) return droppedFiles(location, options.onEvent);
  if (typeof File !== "undefined" && location instanceof File) return droppedFiles([location], options.onEvent);
  return location as ModelFiles;
}

/**
 * The files of `location`: "owner/name" or "owner/name/file.gguf" on a hub, a URL (absolute, or beginning with "/" or ".") of a weights file or
 * of the folder that holds config.json, or of a hub's page about either. A URL's query goes with the request for each file.
 *
 * @throws LlmError "bad-request" when it is neither.
 */
export function locateModel(location: string | URL, options: FetchOptions = {}): ModelFiles {
  return filesAt(addressOf(location, options), options);
}

function filesAt({ name, url, isImmutable }: ModelAddress, options: FetchOptions): ModelFiles {
  const { pathname } = url;
  const lastSegment = pathname.slice(pathname.lastIndexOf("/") + 1);
  const fileName = decoded(lastSegment);
  const isFile = isWeightsFile(fileName);
  // A folder's URL may come without its last slash.
  const folder = isFile || fileName === "" ? pathname.slice(0, pathname.length - lastSegment.length) : `${pathname}/`;
  const { fetch, headers, onEvent, cache = typeof navigator !== "undefined" && "storage" in navigator } = options;
  return {
    name,
    weightsFile: isFile ? fileName : null,
    open: (file, signal) => {
      const target = new URL(url);
      // The named file is asked for as its address was given, others by the plain name that they have beside it.
      target.pathname = isFile && file === fileName ? pathname : folder + file.split("/").map(encodeURIComponent).join("/");
      target.hash = "";
      const http: HttpOptions = {
        ...(fetch && { fetch }),
        ...(headers && { headers }),
        ...(onEvent && { onEvent }),
        ...(signal && { signal }),
        ...(isWeightsFile(file) && { maxUnsizedBytes: MAX_UNSIZED_WEIGHTS }),
      };
      return unlessMissing(cache ? openCachedHttp(target.href, { ...http, immutable: isImmutable }) : openHttp(target.href, http));
    },
  };
}

// Of weights whose server tells neither length nor ranges: all of them come before the first can be used.
const MAX_UNSIZED_WEIGHTS = 4 * 2 ** 30;

/** The plain name behind a URL's; as it is where it is no percent-encoding. */
function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch (error) {
    if (error instanceof URIError) return segment;
    throw error;
  }
}

async function unlessMissing(opening: Promise<ByteSource>): Promise<ByteSource | null> {
  try {
    return await opening;
  } catch (error) {
    if (error instanceof LlmError && error.code === "not-found") return null;
    throw error;
  }
}

/** `files`, those with hashes checked against them as they are read. They are asked for while the hashes may still be on their way. */
export function verifiedFiles(
  files: ModelFiles,
  hashes: ReadonlyMap<string, FileHashes> | Promise<ReadonlyMap<string, FileHashes>>,
  onMismatch: (file: string, range: ByteRange) => void,
): ModelFiles {
  return {
    ...files,
    open: async (file, signal) => {
      const opening = files.open(file, signal);
      opening.catch(() => undefined); // seen below; without hashes the failure to get these is told
      const expected = (await hashes).get(file);
      const source = await opening;
      return source && expected ? verifySource(source, expected, { onMismatch: (range) => onMismatch(source.name, range) }) : source;
    },
  };
}
