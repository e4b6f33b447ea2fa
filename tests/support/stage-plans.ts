// Plans for tests, as progressive.json would hold them.

/** What is present at a stage. */
export interface StageContents {
  readonly layers: readonly number[];
  readonly rows?: number | readonly (readonly [number, number])[];
}

export function planFile(stages: readonly StageContents[]): object {
  return {
    format: "crescendo-progressive",
    version: 1,
    stages: stages.map((stage, index) => ({ name: String.fromCharCode(65 + index), ...stage })),
  };
}

export function largestDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} values and ${b.length}`);
  let largest = 0;
  // Absent tokens are −Infinity in both.
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) largest = Math.max(largest, Math.abs((a[at] ?? 0) - (b[at] ?? 0)));
  return Number.isNaN(largest) ? Number.POSITIVE_INFINITY : largest;
}
