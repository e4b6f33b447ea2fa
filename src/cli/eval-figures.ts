// The results of an evaluation for each stage that answered: likelihood of the ids, and distance from a reference.
import { comparePosition, type PositionComparison, summarise } from "./logits-comparison";
import { NegativeLogLikelihood } from "./negative-log-likelihood";

interface StageFigures {
  readonly stage: string;
  readonly first: number;
  /** One past its last position. */
  end: number;
  readonly nll: NegativeLogLikelihood | null;
  readonly comparisons: PositionComparison[];
}

export interface EvalFiguresOptions {
  readonly ids: readonly number[];
  readonly vocabSize: number;
  /** Whether to compute the likelihood of the ids. */
  readonly isText: boolean;
  /** [ids, vocab]; null if there is nothing to compare with. */
  readonly reference: Float32Array | null;
}

export class EvalFigures {
  readonly #options: EvalFiguresOptions;
  readonly #stages: StageFigures[] = [];

  constructor(options: EvalFiguresOptions) {
    this.#options = options;
  }

  /** Adds the logits [rows, vocab] that `stage` computed for the positions from `firstRow` on. Calls must be in order. */
  add(stage: string, firstRow: number, logits: Float32Array): void {
    const { vocabSize, reference } = this.#options;
    const figures = this.#figuresOf(stage, firstRow);
    figures.nll?.add(firstRow, logits);
    figures.end = firstRow + logits.length / vocabSize;
    if (!reference) return;
    for (let position = firstRow; position < figures.end; position++) {
      const row = position - firstRow;
      figures.comparisons.push(comparePosition(rowOf(reference, position, vocabSize), rowOf(logits, row, vocabSize)));
    }
  }

  /** A line for each stage that answered. */
  nllLines(): string[] {
    return this.#stages.flatMap((figures) => {
      if (!figures.nll) return [];
      const { mean, absentCount } = figures.nll;
      const words = [`mean NLL ${mean.toFixed(5)}`, `perplexity ${Math.exp(mean).toFixed(4)}`];
      if (absentCount > 0) words.push(`absent and left out: ${absentCount}`);
      return [this.#where(figures, `tokens ${this.#options.ids.length}`), ...words].join(", ");
    });
  }

  /** A line for each stage that answered. */
  comparisonLines(file: string): string[] {
    return this.#stages.map((figures) => {
      const { klNats, absentNats, sameFirstChoice, largest } = summarise(figures.comparisons);
      const absent = absentNats > 0 ? ` (absent tokens ${short(absentNats)})` : "";
      const place = largest ? `${short(largest.delta)} (position ${figures.first + largest.index}, token ${largest.token})` : "of no token";
      const where = this.#where(figures, "");
      return `against ${file}${where && `, ${where}`}: KL ${short(klNats)} nats a token${absent}, same first choice ${(100 * sameFirstChoice).toFixed(2)} %, largest |Δlogit| ${place}`;
    });
  }

  /** Names the positions of a line, if there are several lines. */
  #where({ stage, first, end }: StageFigures, otherwise: string): string {
    return this.#stages.length > 1 ? `stage ${stage} at positions ${first} to ${end - 1}` : otherwise;
  }

  #figuresOf(stage: string, first: number): StageFigures {
    const last = this.#stages.at(-1);
    if (last?.stage === stage) return last;
    const { ids, vocabSize, isText } = this.#options;
    const nll = isText ? new NegativeLogLikelihood(ids, vocabSize) : null;
    const next: StageFigures = { stage, first, end: first, nll, comparisons: [] };
    this.#stages.push(next);
    return next;
  }
}

function rowOf(matrix: Float32Array, row: number, columns: number): Float32Array {
  return matrix.subarray(row * columns, (row + 1) * columns);
}

/** Four significant digits, however small the number. */
function short(value: number): string {
  return value === 0 ? "0" : value.toPrecision(4);
}
