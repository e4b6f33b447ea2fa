// Random matrices on the GPU: as fast as real weights, and known, so that a few rows of a product can be checked.
import type { Gpu } from "../src/gpu/device";
import { GpuMatrix, type MatrixShape } from "../src/model/gpu-matrix";
import { type PackedMatrix, paddedColumns, rowCodeBytes, rowScaleBytes } from "../src/weight-format";
import { seededRandom } from "../tests/support/random";
import { unpackMatrix } from "../tests/unit/weights/unpack-matrix";

const SCALE = 0x2000; // 2^-7 as a half
const PIECE_ROWS = 64;

const made = new Map<string, PackedMatrix>();

/** `PIECE_ROWS` rows, which matrices repeat. */
function randomRows(shape: MatrixShape): PackedMatrix {
  const key = `${shape.format} ${shape.columns}`;
  const rows = made.get(key) ?? makeRows(shape);
  made.set(key, rows);
  return rows;
}

function makeRows({ format, columns }: MatrixShape): PackedMatrix {
  const random = seededRandom(`${format} ${columns}`);
  const words = new Uint32Array((PIECE_ROWS * rowCodeBytes(format, columns)) / 4);
  for (let i = 0; i < words.length; i++) words[i] = random.integer(2 ** 32);
  const codes = format === "f32" ? random.normal([PIECE_ROWS, paddedColumns(columns)], 0.02) : words;
  if (format === "f16") for (let i = 0; i < words.length; i++) words[i] = ((words[i] ?? 0) & 0x83ff83ff) | 0x24002400; // about 1/64
  const scales = new Uint16Array((PIECE_ROWS * rowScaleBytes(format, columns)) / 2).fill(SCALE);
  if (format === "q4m") for (let i = 1; i < scales.length; i += 2) scales[i] = 0xa800 + (i % 7); // about -1/32
  return { format, rows: PIECE_ROWS, columns, codes: new Uint8Array(codes.buffer), scales: new Uint8Array(scales.buffer) };
}

export interface RandomMatrix {
  readonly matrix: GpuMatrix;
  /** The product of row `row` and `x`, in f64. */
  readonly rowProduct: (row: number, x: Float32Array) => number;
}

export async function randomMatrix(gpu: Gpu, shape: MatrixShape): Promise<RandomMatrix> {
  const rows = randomRows(shape);
  const stride = paddedColumns(shape.columns);
  const matrix = new GpuMatrix(gpu, "random", shape);
  for (let row = 0; row < shape.rows; row += PIECE_ROWS) {
    const count = Math.min(PIECE_ROWS, shape.rows - row);
    const firstRows = (bytes: Uint8Array<ArrayBuffer>) => bytes.subarray(0, (bytes.length / PIECE_ROWS) * count);
    await matrix.write(row, { ...rows, rows: count, codes: firstRows(rows.codes), scales: firstRows(rows.scales) });
  }
  let values: Float32Array | null = null; // unpacked when first needed
  const rowProduct = (row: number, x: Float32Array) => {
    values ??= unpackMatrix(rows);
    let sum = 0;
    for (let i = 0; i < shape.columns; i++) sum += (values[(row % PIECE_ROWS) * stride + i] ?? 0) * (x[i] ?? 0);
    return sum;
  };
  return { matrix, rowProduct };
}
