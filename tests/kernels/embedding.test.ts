import { embedding } from "../../src/kernels/embedding";
import { WEIGHT_FORMATS } from "../../src/kernels/weight-defines";
import { paddedColumns } from "../../src/weight-format";
import { embeddingReference } from "../reference/embedding";
import { padRows, randomMatrix } from "../reference/random-matrix";
import { BATCH } from "../support/batched-rows";
import { expectClose } from "../support/expect-close";
import { kernelTest, unwritten } from "../support/kernel-test";
import { batchState, stepState } from "../support/step-state";

const TABLE_ROWS = 50;

kernelTest(
  embedding,
  { format: WEIGHT_FORMATS, columns: [32, 100, 176, 576], rows: [1, 65] },
  async ({ run, random, format, columns, rows }) => {
    const { codes, scales, values } = randomMatrix(random, format, TABLE_ROWS, columns);
    const ids = random.ids(rows, TABLE_ROWS);
    const tensors = { state: stepState({ position: 7, rows, ids }), codes, scales };
    // A row beyond the step's, which the dispatch covers, must stay as it is.
    const y = padRows(unwritten((rows + 1) * columns), columns);
    const options = { format, columns, firstRow: 0, rowCount: TABLE_ROWS };
    const result = await run(options, { rows: rows + 1, positions: rows }, tensors, { y });
    const expected = padRows(Float32Array.from(embeddingReference(ids, values, columns)), columns);
    expectClose(result.y.subarray(0, expected.length), expected, { atol: 1e-7, rtol: 1e-6 });
    expectClose(result.y.subarray(expected.length), y.subarray(expected.length), { atol: 0, rtol: 0 });
  },
);

// A table in two parts, as where it is too large to bind: each part leaves the other's rows alone.
kernelTest(embedding, { format: ["f16", "q4m"], split: [1, 17, 49] }, async ({ run, random, format, split }) => {
  const columns = 96;
  const ids = random.ids(20, TABLE_ROWS);
  const parts = [
    { firstRow: 0, matrix: randomMatrix(random, format, split, columns) },
    { firstRow: split, matrix: randomMatrix(random, format, TABLE_ROWS - split, columns) },
  ];
  let y = new Float32Array(20 * paddedColumns(columns)).fill(-1);
  for (const { firstRow, matrix } of parts) {
    const options = { format, columns, firstRow, rowCount: matrix.rows };
    const tensors = { state: stepState({ position: 0, rows: 20, ids }), codes: matrix.codes, scales: matrix.scales };
    y = (await run(options, { rows: 20, positions: 20 }, tensors, { y })).y;
  }
  const table = parts.flatMap(({ matrix }) => [...matrix.values]);
  expectClose(y, embeddingReference(ids, table, columns), { atol: 1e-7, rtol: 1e-6 });
});

// Sequences that decode together: a stopped row's embedding stays as it is.
kernelTest(embedding, { batch: ["f32", "q4"] }, async ({ run, random, batch: format }) => {
  const columns = 100;
  const stride = paddedColumns(columns);
  const { codes, scales, values } = randomMatrix(random, format, TABLE_ROWS, columns);
  const rows = BATCH.map((row, index) => ({ ...row, id: (7 * index + 49) % TABLE_ROWS }));
  const y = new Float32Array((rows.length + 1) * stride).fill(-7);
  const options = { format, columns, firstRow: 0, rowCount: TABLE_ROWS };
  const result = await run(options, { rows: rows.length + 1, positions: 251 }, { state: batchState(rows), codes, scales }, { y });
  const expected = y.slice();
  for (const [row, { id, stopped }] of rows.entries()) {
    if (!stopped) expected.set(Float32Array.from(embeddingReference([id], values, columns)), row * stride); // padding is nobody's
  }
  expectClose(result.y, expected, { atol: 1e-7, rtol: 1e-6 });
});
