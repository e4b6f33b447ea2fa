// Reads the file hashes in a repository's progressive.json, and checks everything in them.
import { DIGEST_BYTES, type FileHashes } from "../bytes/verified-source";
import { LlmError } from "../errors";
import { quoted, shortened } from "../quoted";

const KEYS = ["bytes", "chunkBytes", "sha256"];
// Smaller chunks would make the digests larger (at this size they are 0.4 % of the file, 0.5 % as base64) and the reads too small.
const MIN_CHUNK_BYTES = 2 ** 12;
// Reads widen to whole chunks. With larger chunks a single row would fetch and hold more than is ever loaded at once.
const MAX_CHUNK_BYTES = 2 ** 24;
// 22 MB of base64, loaded before the model. With chunks of 64 KiB, that covers a file of 64 GiB.
const MAX_CHUNKS = 2 ** 20;

/**
 * The hashes by file name. `json` is the value of "hashes" in the file `where`.
 *
 * @throws LlmError "bad-file" naming the place, what was found there and what was expected.
 */
export function parseFileHashes(json: unknown, where: string): ReadonlyMap<string, FileHashes> {
  const refuse = (path: string, value: unknown, expected: string) =>
    new LlmError("bad-file", `${where}: ${shortened(path)} is ${quoted(value)}, expected ${expected}`);
  if (!isObject(json)) throw refuse("hashes", json, "an object");
  const files = Object.entries(json);
  if (files.length === 0) throw refuse("hashes", json, "at least one file");
  return new Map(
    files.map(([name, value]) => {
      const path = `hashes[${quoted(name)}]`;
      if (name.trim() === "") throw refuse(path, value, "the name of a file as its key");
      return [name, readHashes(value, path, refuse)];
    }),
  );
}

type Refuse = (path: string, value: unknown, expected: string) => LlmError;

function readHashes(json: unknown, path: string, refuse: Refuse): FileHashes {
  if (!isObject(json)) throw refuse(path, json, "an object");
  const unknown = Object.keys(json).find((key) => !KEYS.includes(key));
  if (unknown !== undefined) throw refuse(`${path}.${unknown}`, json[unknown], `no such key: known keys: ${KEYS.join(", ")}`);

  const { bytes, chunkBytes, sha256 } = json;
  if (!isWhole(bytes) || bytes < 1) throw refuse(`${path}.bytes`, bytes, "a whole number of at least 1");
  if (!isWhole(chunkBytes) || chunkBytes < MIN_CHUNK_BYTES || chunkBytes > MAX_CHUNK_BYTES || !Number.isInteger(Math.log2(chunkBytes))) {
    throw refuse(`${path}.chunkBytes`, chunkBytes, `a power of two from ${MIN_CHUNK_BYTES} to ${MAX_CHUNK_BYTES}`);
  }
  const chunkCount = Math.ceil(bytes / chunkBytes);
  if (chunkCount > MAX_CHUNKS) {
    throw refuse(`${path}.chunkBytes`, chunkBytes, `larger chunks: ${bytes} bytes are ${chunkCount} of them, the most is ${MAX_CHUNKS}`);
  }
  const digests = typeof sha256 === "string" ? decodeBase64(sha256, chunkCount * DIGEST_BYTES) : null;
  if (digests === null) {
    const digitCount = 4 * Math.ceil((chunkCount * DIGEST_BYTES) / 3);
    throw refuse(
      `${path}.sha256`,
      sha256,
      `base64 of ${digitCount} characters: ${chunkCount} digests of ${DIGEST_BYTES} bytes, of chunks of ${chunkBytes} bytes`,
    );
  }
  return { bytes, chunkBytes, sha256: digests };
}

/** Null unless `text` is padded base64, in the standard alphabet, of exactly `byteCount` bytes. */
function decodeBase64(text: string, byteCount: number): Uint8Array | null {
  if (text.length !== 4 * Math.ceil(byteCount / 3) || !/^[A-Za-z\d+/]*={0,2}$/.test(text)) return null;
  const characters = atob(text);
  if (characters.length !== byteCount) return null;
  const bytes = new Uint8Array(byteCount);
  for (let at = 0; at < byteCount; at++) bytes[at] = characters.charCodeAt(at);
  return bytes;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value);
}
