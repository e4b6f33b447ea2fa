// Residuals out of pages, row by row.

export interface ResidualLoadInput {
  readonly columns: number;
  /** Floats between rows, in `x` and in pages. */
  readonly stride: number;
  readonly pageSize: number;
  readonly table: ArrayLike<number>;
  readonly position: number;
  readonly rows: number;
  /** [page][pageSize][stride] */
  readonly residuals: Float32Array;
  /** [rows, stride], as it was */
  readonly x: Float32Array;
}

/** `x` as it is afterwards. */
export function residualLoadReference(input: ResidualLoadInput): Float32Array {
  const { columns, stride, pageSize, table, position, rows, residuals, x } = input;
  const after = x.slice();
  for (let row = 0; row < rows; row++) {
    const page = table[Math.floor((position + row) / pageSize)] ?? Number.NaN;
    const from = (page * pageSize + ((position + row) % pageSize)) * stride;
    for (let i = 0; i < columns; i++) after[row * stride + i] = residuals[from + i] ?? Number.NaN;
  }
  return after;
}
