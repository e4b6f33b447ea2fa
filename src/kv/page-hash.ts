// What a page of K/V is worth: a name for the tokens up to its end, and for what computed it. Equal names mean equal contents.
import { fnv1a, hashText } from "../bytes/fnv1a";

/** One name for each page that `ids` fill, the last perhaps in part: chained, so that each stands for all ids before it too. */
export function pageHashes(signature: string, ids: readonly number[], pageSize: number): readonly string[] {
  const hashes: string[] = [];
  let hash = fnv1a(new TextEncoder().encode(signature));
  for (let start = 0; start < ids.length; start += pageSize) {
    const words = new Uint32Array(ids.slice(start, start + pageSize));
    hash = fnv1a(new Uint8Array(words.buffer), hash);
    hashes.push(hashText(hash));
  }
  return hashes;
}
