// A golden model's files in memory, whose weights a test damages, takes away or holds up while an engine reads them.
import type { ByteRange, ByteSource } from "../../src/bytes/byte-source";
import { readSafetensors } from "../../src/formats/safetensors";
import { requireStored } from "../../src/formats/tensor-directory";
import type { ModelFiles } from "../../src/index";
import { goldenContents } from "./memory-files";
import { memorySource } from "./memory-source";

const WEIGHTS = "model.safetensors";
const CHUNK_BYTES = 4096;
const DIGEST_BYTES = 16;

export class FaultyFiles implements ModelFiles {
  readonly name = "test/model";
  readonly weightsFile = null;
  /** What the weights' file holds. */
  readonly weights: Uint8Array<ArrayBuffer>;
  /** Called before each read of the weights: throws, waits, counts. */
  onRead: (range: ByteRange, signal?: AbortSignal) => void | Promise<void> = () => undefined;
  readonly #config: Uint8Array;

  private constructor(weights: Uint8Array, config: Uint8Array) {
    this.weights = new Uint8Array(weights);
    this.#config = config;
  }

  static async of(name: string): Promise<FaultyFiles> {
    const contents = await goldenContents(name);
    return new FaultyFiles(contents[WEIGHTS], contents["config.json"]);
  }

  async open(file: string): Promise<ByteSource | null> {
    if (file === "config.json") return memorySource(this.#config, { name: file });
    if (file !== WEIGHTS) return null;
    const source = memorySource(this.weights, { name: file });
    const read: ByteSource["read"] = async (range, signal) => {
      await this.onRead(range, signal);
      return source.read(range, signal);
    };
    return { ...source, read };
  }

  async rangeOf(tensor: string): Promise<ByteRange> {
    const source = memorySource(this.weights, { name: WEIGHTS });
    return requireStored(await readSafetensors(source), tensor).range;
  }

  /** Writes `bytes` into the middle of a tensor; returns what puts back what was there. */
  async damage(tensor: string, bytes: readonly number[]): Promise<() => void> {
    const { start, end } = await this.rangeOf(tensor);
    const at = start + 2 * Math.floor((end - start) / 4); // elements have two bytes
    const intact = this.weights.slice(at, at + bytes.length);
    this.weights.set(bytes, at);
    return () => this.weights.set(intact, at);
  }

  /** The weights' hashes, as a plan's file holds them. */
  async hashes(): Promise<object> {
    const digests: number[] = [];
    for (let start = 0; start < this.weights.length; start += CHUNK_BYTES) {
      const digest = await crypto.subtle.digest("SHA-256", this.weights.slice(start, start + CHUNK_BYTES));
      digests.push(...new Uint8Array(digest, 0, DIGEST_BYTES));
    }
    return { [WEIGHTS]: { bytes: this.weights.length, chunkBytes: CHUNK_BYTES, sha256: btoa(String.fromCharCode(...digests)) } };
  }
}

/** Whether they have bytes in common. */
export function overlap(a: ByteRange, b: ByteRange): boolean {
  return a.start < b.end && b.start < a.end;
}
