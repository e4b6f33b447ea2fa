// One answer to "is there such a file", whatever the server's way to say no: 404 and 410, a refusal in place of 404 (buckets whose files
// may not be listed), or its page with status 200 (servers of single-page applications).
import type { ByteSource } from "../bytes/byte-source";
import { isRefused } from "../bytes/http-status";
import { LlmError } from "../errors";

export interface ModelFiles {
  /** For messages: the repository, the URL, the file. */
  readonly name: string;
  /** The weights' file, where the location names one (a GGUF, or one .safetensors). */
  readonly weightsFile: string | null;
  /** Opens a file by its name beside the weights; null when there is none. The signal ends the opening. @throws LlmError of the source. */
  open(file: string, signal?: AbortSignal): Promise<ByteSource | null>;
}

/** The server refused an optional file (401, 403 …), as buckets do with files that they do not have: it counts as absent. */
export interface FileRefusedEvent {
  readonly type: "file-refused";
  readonly file: string;
  readonly reason: string;
}

export type FileAnswer =
  | { readonly kind: "found"; readonly source: ByteSource }
  | { readonly kind: "absent" }
  /** A web page came in its place. */
  | { readonly kind: "page"; readonly name: string }
  /** Absent where the file is optional; where it is not, the error is what there is to say. */
  | { readonly kind: "refused"; readonly error: LlmError };

export interface AskOptions {
  readonly signal?: AbortSignal;
  /** A longer file is refused before any of it is read. */
  readonly maxBytes?: number;
}

/** @throws LlmError of the source, but for what counts as an answer; "bad-file" for a file that is too long. */
export async function askForFile(files: ModelFiles, file: string, { signal, maxBytes }: AskOptions = {}): Promise<FileAnswer> {
  try {
    const source = await files.open(file, signal);
    if (source === null) return { kind: "absent" };
    if (maxBytes !== undefined && source.size > maxBytes)
      throw new LlmError("bad-file", `${source.name} has ${source.size} bytes; such files have at most ${maxBytes}.`);
    return (await isPage(source, signal)) ? { kind: "page", name: source.name } : { kind: "found", source };
  } catch (error) {
    if (isRefused(error)) return { kind: "refused", error };
    throw error;
  }
}

/** The file, null where it is absent in any way. An event tells of a refusal. @throws LlmError of the source. */
export async function openOptional(
  files: ModelFiles,
  file: string,
  options: AskOptions & { readonly onEvent?: (event: FileRefusedEvent) => void },
): Promise<ByteSource | null> {
  const answer = await askForFile(files, file, options);
  if (answer.kind === "refused") options.onEvent?.({ type: "file-refused", file, reason: answer.error.message });
  return answer.kind === "found" ? answer.source : null;
}

/** @throws LlmError "not-found", with `advice`; the refusal where there is one; and what the source throws. */
export async function openRequired(files: ModelFiles, file: string, advice: string, options: AskOptions): Promise<ByteSource> {
  const answer = await askForFile(files, file, options);
  if (answer.kind === "found") return answer.source;
  throw absence(files, file, answer, advice);
}

/** The error for a file that is needed and did not come. */
export function absence(files: ModelFiles, file: string, answer: Exclude<FileAnswer, { kind: "found" }>, advice: string): LlmError {
  if (answer.kind === "refused") return answer.error;
  if (answer.kind === "absent") return new LlmError("not-found", `${files.name} has no ${file}. ${advice}`);
  const isShown = /\/(blob|tree)\//.test(answer.name);
  const instead = isShown ? 'A hub shows files under "/blob/" and "/tree/", and serves them under "/resolve/": use that address.' : advice;
  return new LlmError("not-found", `${files.name} has no ${file}: ${answer.name} answers with a web page. ${instead}`);
}

const PROBE_BYTES = 1024; // comments may come first
const PAGE_START = /^\s*(<\?xml[^>]*>\s*)?(<!--[\s\S]*?-->\s*)*<(!doctype\s+html|html|head|body)[\s>]/i;

async function isPage(source: ByteSource, signal?: AbortSignal): Promise<boolean> {
  const bytes = await source.read({ start: 0, end: Math.min(source.size, PROBE_BYTES) }, signal);
  return PAGE_START.test(new TextDecoder().decode(bytes));
}
