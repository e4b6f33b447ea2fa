// What tests of checked reads share: the hashes of a file, and a source that takes its time.
import { createHash } from "node:crypto";
import type { FileHashes } from "../../../src/bytes/verified-source";
import { type MemorySource, memorySource } from "../../support/memory-source";
import type { Random } from "../../support/random";

export function hashesOf(content: Uint8Array, chunkBytes: number): FileHashes {
  const digests: Buffer[] = [];
  for (let start = 0; start < content.length; start += chunkBytes) {
    const digest = createHash("sha256").update(content.subarray(start, start + chunkBytes));
    digests.push(digest.digest().subarray(0, 16));
  }
  return { bytes: content.length, chunkBytes, sha256: Buffer.concat(digests) };
}

export const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

/** Answers after some turns, so that reads meet each other under way. */
export function slowSource(content: Uint8Array, random?: Random): MemorySource {
  const source = memorySource(content);
  return {
    ...source,
    async read(range, signal) {
      const answer = await source.read(range, signal);
      for (let turns = random?.integer(4) ?? 1; turns > 0; turns--) await turn();
      signal?.throwIfAborted();
      return answer;
    },
  };
}
