// Which stage said which part of a text that grows.

export interface StageRun {
  readonly stage: number;
  /** In the text, `end` exclusive. */
  readonly start: number;
  readonly end: number;
}

export class StageRuns {
  readonly #runs: StageRun[] = [];

  /** The text goes on by `piece`, as `stage` says it. */
  add(piece: string, stage: number): void {
    const last = this.#runs.at(-1);
    const start = last?.end ?? 0;
    const end = start + piece.length;
    // What another stage begins with blanks begins with its first letter: between two paragraphs there is no place for a mark.
    const letter = last && last.stage !== stage ? start + piece.length - piece.trimStart().length : end;
    if (last) this.#runs[this.#runs.length - 1] = { ...last, end: letter };
    if (!last || letter < end) this.#runs.push({ stage, start: last ? letter : start, end });
  }

  /** In the order in which they first spoke. */
  get stages(): number[] {
    return [...new Set(this.#runs.map(({ stage }) => stage))];
  }

  /** Those of a part of the text, cut to it. */
  within(start: number, end: number): StageRun[] {
    return this.#runs
      .map((run) => ({ ...run, start: Math.max(run.start, start), end: Math.min(run.end, end) }))
      .filter((run) => run.start < run.end);
  }

  /** Where another stage went on, from `start` on and before `end`. */
  changesWithin(start: number, end: number): StageRun[] {
    return this.#runs.slice(1).filter((run) => start <= run.start && run.start < end);
  }
}

const LOOK_AHEAD = 200; // past a link's address

/**
 * Where a drawn text continues at `offset` of the Markdown it was made of, which is a letter. The drawn letters are sought in the Markdown one
 * after the other; what is not found (one that an entity stands for, say) is passed over, and so are line ends: a table has others than its Markdown.
 */
export function drawnOffset(drawn: string, markdown: string, offset: number): number {
  let from = 0;
  for (let index = 0; index < drawn.length; index++) {
    const letter = drawn.charAt(index);
    const found = letter === "\n" ? -1 : markdown.indexOf(letter, from);
    if (found < 0 || found - from > LOOK_AHEAD) continue;
    if (found >= offset) return index;
    from = found + 1;
  }
  return drawn.length;
}
