// How an upgrade goes between decode steps: slices first, and one pass for the last few positions, which nobody is to notice.
import { expect, test } from "vitest";
import { Sequence } from "../../../src/steps/sequence";
import type { Rebuild } from "../../../src/takeover/rebuild";
import { RebuildPacer } from "../../../src/takeover/rebuild-pacer";
import type { Upgrade } from "../../../src/takeover/upgrade";
import { type UpgradePolicy, UpgradeRun } from "../../../src/takeover/upgrade-run";

const LAYERS = 24;

/** Does no work, and notes the rows of what went through all layers in one go. */
class CountedRebuild implements Pick<Rebuild, "layersAbove" | "remaining" | "isAmid" | "advance"> {
  readonly layersAbove = LAYERS;
  readonly passes: number[] = [];
  /** Rows of each chunk. */
  readonly chunks: number[] = [];
  readonly #done = new Map<Sequence, number>();
  #chunk: { readonly sequence: Sequence; readonly rows: number; layer: number } | null = null;

  remaining(sequence: Sequence, length: number): number {
    return length - (this.#done.get(sequence) ?? 0);
  }

  isAmid(sequence: Sequence): boolean {
    return this.#chunk?.sequence === sequence;
  }

  advance(sequence: Sequence, length: number, { rows, layers }: { readonly rows: number; readonly layers: number }): boolean {
    if (this.#chunk?.sequence !== sequence) this.#chunk = { sequence, rows: Math.min(rows, this.remaining(sequence, length)), layer: 0 };
    if (this.#chunk.rows === 0) this.#chunk = null;
    if (!this.#chunk) return false;
    if (this.#chunk.layer === 0) this.chunks.push(this.#chunk.rows);
    this.#chunk.layer += layers;
    if (layers >= LAYERS) this.passes.push(this.#chunk.rows);
    if (this.#chunk.layer < LAYERS) return true;
    this.#done.set(sequence, length - this.remaining(sequence, length) + this.#chunk.rows);
    this.#chunk = null;
    return true;
  }
}

interface Machine {
  readonly stepMs: number;
  readonly sliceMs: number;
  readonly chunkRows?: number;
  readonly vectorRows?: number;
  readonly policy?: UpgradePolicy;
}

/** An upgrade beside answers whose steps and slices take so long. */
function upgradeOn({ stepMs, sliceMs, chunkRows = 256, vectorRows = 1, policy = "background" }: Machine) {
  const pacer = new RebuildPacer(vectorRows);
  for (let token = 0; token < 20; token++) pacer.tokenCame(stepMs, 0);
  const rebuild = new CountedRebuild();
  const run = new UpgradeRun({ rebuild } as unknown as Upgrade, policy, { chunkRows, vectorRows }, pacer);
  /** Slices before each of so many steps from `position` on, up to the one that the new stage takes over at. */
  const decode = (sequence: Sequence, position: number, steps: number) => {
    const slices: number[] = [];
    for (let step = 0; step < steps; step++) {
      const verdict = run.beforeStep([{ sequence, position: position + step }]);
      const before = run.takeSlices();
      slices.push(before);
      if (verdict === "commit") return { slices, hasCommitted: true };
      pacer.tokenCame(stepMs + before * sliceMs, before);
    }
    return { slices, hasCommitted: false };
  };
  return { rebuild, decode };
}

test("takes over with 16 positions at most in one go where slices keep up with decoding", () => {
  const { rebuild, decode } = upgradeOn({ stepMs: 10, sliceMs: 1 });
  expect(decode(new Sequence([]), 1000, 2000).hasCommitted).toBe(true);
  expect(rebuild.passes.length).toBe(1);
  expect(rebuild.passes[0]).toBeLessThanOrEqual(16);
});

// A chunk of 256 cost as much with 40 rows in it, and 40 more were decoded meanwhile.
test("goes its last stretch in chunks of the few rows that the kernels of decode take", () => {
  const { rebuild, decode } = upgradeOn({ stepMs: 10, sliceMs: 0.5, vectorRows: 16 });
  expect(decode(new Sequence([]), 1000, 2000).hasCommitted).toBe(true);
  const short = rebuild.chunks.findIndex((rows) => rows <= 16);
  expect(short).toBeGreaterThan(0);
  expect(Math.max(...rebuild.chunks.slice(short))).toBeLessThanOrEqual(16);
  expect(Math.max(0, ...rebuild.passes)).toBeLessThanOrEqual(16);
});

// All 40 went in one pass at once: nobody knew yet what a slice costs.
test("begins with slices, however short the conversation", () => {
  const { rebuild, decode } = upgradeOn({ stepMs: 10, sliceMs: 1 });
  const { slices } = decode(new Sequence([]), 40, 3);
  expect(Math.max(...slices)).toBeGreaterThan(0);
  expect(rebuild.passes).toEqual([]);
});

// One slice of 10 ms a step: after each chunk 24 positions and more are left.
const OUTRUN = { stepMs: 500, sliceMs: 10 };

test.each([256, 30, 20])(
  "takes over with more where decoding outruns them, and never with more than a chunk of %i rows has",
  (chunkRows) => {
    const { rebuild, decode } = upgradeOn({ ...OUTRUN, chunkRows });
    const { hasCommitted } = decode(new Sequence([]), 18, 2000);
    expect(hasCommitted).toBe(chunkRows > 24);
    expect(rebuild.passes.reduce((sum, rows) => sum + rows, 0)).toBeLessThanOrEqual(chunkRows);
  },
);

test("what one conversation may catch up with in one go is not what the next one may", () => {
  const { decode } = upgradeOn({ ...OUTRUN, policy: "turn-boundary" });
  // It pauses when what is left may go in one pass. That is never 16 positions, as decoding outruns the slices.
  expect(decode(new Sequence([]), 600, 2000).slices).toContain(0);
  expect(decode(new Sequence([]), 30, 1).slices).toEqual([1]);
});
