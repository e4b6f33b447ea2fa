// Measures differences between numbers in the same terms as docs/weight-layouts.md.

/** Numbers of `actual` that differ from `expected`. 0 equals -0, and NaN equals NaN. */
export function mismatchCount(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let count = 0;
  for (let i = 0; i < actual.length; i++) {
    const [a, e] = [actual[i] ?? 0, expected[i] ?? 0];
    if (a !== e && !(Number.isNaN(a) && Number.isNaN(e))) count++;
  }
  return count;
}

/** Root mean square of the differences, relative to that of `expected`. */
export function relativeRms(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    error += ((actual[i] ?? 0) - (expected[i] ?? 0)) ** 2;
    size += (expected[i] ?? 0) ** 2;
  }
  return Math.sqrt(error / size);
}

/** The largest difference in a group of 32, relative to the group's largest magnitude, over all groups. `floor` is subtracted. */
export function worstOfGroup(actual: ArrayLike<number>, expected: ArrayLike<number>, floor = 0): number {
  let worst = 0;
  for (let first = 0; first < expected.length; first += 32) {
    let difference = 0;
    let magnitude = 0;
    for (let i = first; i < first + 32; i++) {
      difference = Math.max(difference, Math.abs((actual[i] ?? 0) - (expected[i] ?? 0)));
      magnitude = Math.max(magnitude, Math.abs(expected[i] ?? 0));
    }
    if (magnitude > 0) worst = Math.max(worst, Math.max(0, difference - floor) / magnitude);
  }
  return worst;
}
