// Names a page of K/V after the tokens up to its end and the weights that computed it. Equal names mean equal contents.
import { fnv1a, hashText } from "../bytes/fnv1a";

/** A name for each page of `ids`, including a partly filled last one. Names are chained, so each also covers all ids before it. */
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
