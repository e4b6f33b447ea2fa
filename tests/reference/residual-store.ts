// Residuals into pages, row by row.

export interface ResidualStoreInput {
  readonly columns: number;
  /** Floats between rows, in `x` and in pages. */
  readonly stride: number;
  readonly pageSize: number;
  readonly table: ArrayLike<number>;
  readonly position: number;
  readonly rows: number;
  /** [rows, stride] */
  readonly x: Float32Array;
  /** [page][pageSize][stride], as it was */
  readonly residuals: Float32Array;
}

/** `residuals` as it is afterwards. */
export function residualStoreReference(input: ResidualStoreInput): Float32Array {
  const { columns, stride, pageSize, table, position, rows, x, residuals } = input;
  const after = residuals.slice();
  for (let row = 0; row < rows; row++) {
    const page = table[Math.floor((position + row) / pageSize)] ?? Number.NaN;
    const to = (page * pageSize + ((position + row) % pageSize)) * stride;
    for (let i = 0; i < columns; i++) after[to + i] = x[row * stride + i] ?? Number.NaN;
  }
  return after;
}
