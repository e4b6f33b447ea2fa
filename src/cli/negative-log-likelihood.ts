// Negative log-likelihood of a text: the mean of −log p(id | ids before it), in nats, over all ids except the first.

export class NegativeLogLikelihood {
  readonly #ids: readonly number[];
  readonly #vocabSize: number;
  #sum = 0;
  #count = 0;
  #absentCount = 0;

  constructor(ids: readonly number[], vocabSize: number) {
    this.#ids = ids;
    this.#vocabSize = vocabSize;
  }

  /** Adds logits [rows, vocab] of the positions from `firstRow` on. Those of the last position predict an unknown id and are ignored. */
  add(firstRow: number, logits: Float32Array): void {
    const rows = logits.length / this.#vocabSize;
    for (let row = 0; row < rows; row++) {
      const next = this.#ids[firstRow + row + 1];
      if (next === undefined) return;
      const values = logits.subarray(row * this.#vocabSize, (row + 1) * this.#vocabSize);
      const logit = values[next] ?? Number.NaN;
      if (logit === Number.NEGATIVE_INFINITY) {
        this.#absentCount++;
        continue;
      }
      this.#sum += logSumExp(values) - logit;
      this.#count++;
    }
  }

  /** NaN if no id counts. */
  get mean(): number {
    return this.#sum / this.#count;
  }

  /** Number of ids that the mean omits, because their head rows are absent. One of them would make the mean infinite. */
  get absentCount(): number {
    return this.#absentCount;
  }
}

export function logSumExp(values: Float32Array): number {
  let highest = Number.NEGATIVE_INFINITY;
  for (const value of values) if (value > highest) highest = value;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - highest);
  return highest + Math.log(sum);
}
