// Records which stage wrote which part of a growing text.

export interface StageRun {
  readonly stage: number;
  /** Range in the text; `end` is exclusive. */
  readonly start: number;
  readonly end: number;
}

export class StageRuns {
  readonly #runs: StageRun[] = [];

  /** Appends `piece`, written by `stage`. */
  add(piece: string, stage: number): void {
    const last = this.#runs.at(-1);
    const start = last?.end ?? 0;
    const end = start + piece.length;
    // If another stage begins with blanks, its run begins at its first letter: there is no place for a mark between paragraphs.
    const letter = last && last.stage !== stage ? start + piece.length - piece.trimStart().length : end;
    if (last) this.#runs[this.#runs.length - 1] = { ...last, end: letter };
    if (!last || letter < end) this.#runs.push({ stage, start: last ? letter : start, end });
  }

  /** Stages in order of their first run. */
  get stages(): number[] {
    return [...new Set(this.#runs.map(({ stage }) => stage))];
  }

  /** The runs within a part of the text, clipped to it. */
  within(start: number, end: number): StageRun[] {
    return this.#runs
      .map((run) => ({ ...run, start: Math.max(run.start, start), end: Math.min(run.end, end) }))
      .filter((run) => run.start < run.end);
  }

  /** Positions from `start` to `end` (exclusive) where another stage took over. */
  changesWithin(start: number, end: number): StageRun[] {
    return this.#runs.slice(1).filter((run) => start <= run.start && run.start < end);
  }
}

const LOOK_AHEAD = 200; // enough to skip a link's address

/**
 * Maps `offset` of the Markdown source, which is a letter, to an offset of the rendered text. The rendered letters are searched in the Markdown
 * one by one. Letters not found (for example from an entity) are skipped, and so are line ends, which differ in tables.
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
