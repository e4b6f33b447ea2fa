// Prints a file's "hashes" for progressive.json:  node tools/run.mjs tools/hash-file.ts FILE [chunkBytes]
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { basename } from "node:path";
import { DIGEST_BYTES } from "../src/bytes/verified-source";
import { parseFileHashes } from "../src/stages/file-hashes";

// A model of 1 GB is hashed to 340 kB of base64, and what a page reads ends within 64 KiB of what it wants.
const DEFAULT_CHUNK_BYTES = "65536";

const [, , path, chunkText = DEFAULT_CHUNK_BYTES] = process.argv;
const chunkBytes = Number(chunkText);
if (!path || !Number.isSafeInteger(chunkBytes) || chunkBytes < 1) {
  console.error("usage: node tools/run.mjs tools/hash-file.ts FILE [chunkBytes]");
  process.exit(2);
}

const file = await open(path);
const digests: Buffer[] = [];
let bytes = 0;
const chunk = Buffer.alloc(chunkBytes);
for (let filled = await fill(chunk); filled > 0; filled = await fill(chunk)) {
  digests.push(createHash("sha256").update(chunk.subarray(0, filled)).digest().subarray(0, DIGEST_BYTES));
  bytes += filled;
}
await file.close();
const hashes = { [basename(path)]: { bytes, chunkBytes, sha256: Buffer.concat(digests).toString("base64") } };
parseFileHashes(hashes, path); // what is printed is what the page will take
console.log(JSON.stringify(hashes, null, 2));

/** As many of the next bytes as there are, up to the whole chunk. */
async function fill(target: Buffer): Promise<number> {
  let filled = 0;
  for (let bytesRead = -1; bytesRead !== 0 && filled < target.length; filled += bytesRead) {
    ({ bytesRead } = await file.read(target, filled, target.length - filled));
  }
  return filled;
}
