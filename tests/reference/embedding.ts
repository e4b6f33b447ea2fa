// The embedding lookup in f64.

export function embeddingReference(ids: ArrayLike<number>, table: ArrayLike<number>, columns: number): Float64Array {
  return Float64Array.from(
    { length: ids.length * columns },
    (_, i) => table[(ids[Math.floor(i / columns)] ?? 0) * columns + (i % columns)] ?? 0,
  );
}
