// How close do matrix products come to the machine's limits? `gemv`: those of a decode step, against measured bandwidth. `gemm`: of a prefill chunk.
import { assert } from "../src/assert";
import type { GpuTensor, TrackedBuffer } from "../src/gpu/buffer";
import { Gpu, type GpuOptions } from "../src/gpu/device";
import { type BoundKernel, KernelCache } from "../src/gpu/kernel";
import { readback } from "../src/gpu/readback";
import { DP4A_TILE, type Dp4aTile, isDp4aFormat, matmulDp4a } from "../src/kernels/matmul-dp4a";
import { matmulSubgroupMatrix } from "../src/kernels/matmul-subgroup-matrix";
import { type MatmulTileOptions, matmulTile, type TileKind, tileKind } from "../src/kernels/matmul-tile";
import { fitsBatch, type GemvTuning, gemvTuning, type MatmulVectorOptions, matmulVector } from "../src/kernels/matmul-vector";
import { quantiseRows } from "../src/kernels/quantise-rows";
import type { StepShape } from "../src/kernels/step-shape";
import { encodeState } from "../src/kernels/step-state";
import { GROUP, paddedColumns, rowCodeBytes, rowScaleBytes, type WeightFormat } from "../src/weight-format";
import { seededRandom } from "../tests/support/random";
import { gpuTime, repeatTimes } from "./gpu-time";
import { measureMachine } from "./machine";
import { randomMatrix } from "./random-weights";

export interface ProductsOptions extends GpuOptions {
  readonly formats?: readonly WeightFormat[];
  /** [rows, columns] of the matrix. */
  readonly shapes?: readonly (readonly [number, number])[];
  /** Rows of x: for gemm of the chunk, for gemv of the decode step. Steps of several are measured a row at a time and in every batch that fits. */
  readonly rows?: readonly number[];
  /** Try all GEMV parameters and all GEMM tiles, not only those the engine uses. */
  readonly sweep?: boolean;
}

const SHAPES = [
  [576, 576],
  [3072, 576],
  [576, 1536],
  [2048, 2048],
  [4096, 4096],
  [8192, 8192],
] as const;
const FORMATS = ["q4", "q4m", "q8"] as const;
// Larger than any last-level cache: weights come from memory, as in a real step.
const ROTATED_BYTES = 192 * 2 ** 20;
// A function: in Node, Dawn defines GPUBufferUsage after this module is evaluated.
const usage = () => GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
const CHECKED_ROWS = 5;

function upload(gpu: Gpu, label: string, data: Float32Array<ArrayBuffer> | Uint32Array<ArrayBuffer>): TrackedBuffer {
  const buffer = gpu.createBuffer(label, data.byteLength, "scratch", usage());
  gpu.device.queue.writeBuffer(buffer.raw, 0, data);
  return buffer;
}

const tuningsLike = ({ staged }: GemvTuning): readonly GemvTuning[] =>
  [8, 16, 32, 64].flatMap((lanes) =>
    [1, 2, 4].flatMap((rowsPerThread) => [64, 128, 256].map((workgroupSize) => ({ lanes, rowsPerThread, workgroupSize, staged }))),
  );

const DP4A_TILES: readonly Dp4aTile[] = [
  { rows: 128, columns: 128, threadRows: 16 },
  { rows: 128, columns: 64, threadRows: 16 },
  { rows: 128, columns: 64, threadRows: 8 },
  { rows: 64, columns: 128, threadRows: 8 },
  { rows: 64, columns: 64, threadRows: 8 },
  { rows: 64, columns: 64, threadRows: 16 },
  { rows: 64, columns: 32, threadRows: 8 },
  { rows: 32, columns: 64, threadRows: 4 },
  { rows: 32, columns: 32, threadRows: 4 },
];

export async function measureGemv(options: ProductsOptions = {}) {
  const { formats = FORMATS, shapes = SHAPES, rows: stepSizes = [1], sweep = false } = options;
  const gpu = await Gpu.request(options);
  const machine = await measureMachine(gpu);
  const results = [];
  for (const format of formats) {
    for (const [rows, columns] of shapes) {
      const chosen = gemvTuning(format, rows, columns, gpu.features);
      const tunings = sweep ? [chosen, ...tuningsLike(chosen).filter(({ lanes, workgroupSize }) => lanes <= workgroupSize)] : [chosen];
      for (const stepRows of stepSizes) {
        for (const tuning of tunings) {
          const product = gemvOptions(gpu, format, rows, columns, tuning);
          const batches = [1, 2, 4, 8].filter((batch) => batch < 2 * stepRows && fitsBatch({ ...product, batch }));
          for (const batch of batches) results.push(await gemv(gpu, machine.readGBps, { ...product, batch }, stepRows));
        }
      }
    }
  }
  gpu.dispose();
  return { adapter: gpu.adapterName, machine, gemv: results };
}

function gemvOptions({ features }: Gpu, format: WeightFormat, rows: number, columns: number, tuning: GemvTuning) {
  const subgroups = features.subgroups !== null;
  return { format, rows, columns, bias: false, epilogue: "store", yOffset: 0, yStride: rows, subgroups, tuning } as const;
}

/** The same x in every row of the step. */
async function gemv(owner: Gpu, readGBps: number, options: MatmulVectorOptions, stepRows: number) {
  const gpu = owner.share();
  try {
    const { format, rows, columns, tuning, batch } = options;
    const bytes = rows * (rowCodeBytes(format, columns) + rowScaleBytes(format, columns));
    const x = seededRandom("x")
      .normal([paddedColumns(columns)])
      .fill(0, columns);
    const allX = new Float32Array(stepRows * x.length);
    for (let row = 0; row < stepRows; row++) allX.set(x, row * x.length);
    const state = encodeState(Array.from({ length: stepRows }, () => ({})));
    const tensors = { state: upload(gpu, "state", state).view(), x: upload(gpu, "x", allX).view() };
    const kernel = await KernelCache.of(gpu).compile(matmulVector, options);
    const shape = { rows: stepRows, positions: stepRows };
    const bind = async () => {
      const { matrix, rowProduct } = await randomMatrix(gpu, { format, rows, columns });
      const y = gpu.createBuffer("y", stepRows * rows * 4, "scratch", usage()).view();
      return { rowProduct, y, step: kernel.bind({ ...tensors, ...matrix.rowTensors(0, 0, rows), y }) };
    };
    const bound = [await bind()];
    while (bound.length < Math.max(2, ROTATED_BYTES / bytes)) bound.push(await bind());
    const { gpuMs, wallMs } = await repeatTimes(gpu, { encode: (pass, i) => bound[i % bound.length]?.step.encode(pass, shape) });
    const ms = gpuMs ?? wallMs;
    const [first] = bound;
    const y = new Float32Array(first ? await readback(gpu, first.y) : new ArrayBuffer(0));
    const error = largestError(y.subarray((stepRows - 1) * rows), rows, (row) => first?.rowProduct(row, x) ?? 0);
    const GBps = bytes / ms / 1e6;
    return { format, rows, columns, stepRows, batch, tuning, us: 1000 * ms, wallUs: 1000 * wallMs, GBps, ofRead: GBps / readGBps, error };
  } finally {
    gpu.dispose();
  }
}

export async function measureGemm(options: ProductsOptions = {}) {
  const { formats = FORMATS, shapes = SHAPES, rows: rowCounts = [256, 1024], sweep = false } = options;
  const gpu = await Gpu.request(options);
  const machine = await measureMachine(gpu);
  const results = [];
  for (const format of formats) {
    for (const shape of shapes) {
      const tiles: readonly TileKind[] = sweep ? ["large", "small"] : [tileKind(shape[0], gpu.features)];
      for (const stepRows of rowCounts) {
        for (const tile of tiles) results.push(await gemm(gpu, format, shape, stepRows, tile));
        if (gpu.features.subgroupMatrix) results.push(await gemm(gpu, format, shape, stepRows, "subgroup-matrix"));
        if (!isDp4aFormat(format)) continue;
        for (const tile of sweep ? DP4A_TILES : [DP4A_TILE]) results.push(await gemm(gpu, format, shape, stepRows, tile));
      }
    }
  }
  gpu.dispose();
  return { adapter: gpu.adapterName, machine, gemm: results };
}

type ProductTile = TileKind | "subgroup-matrix" | Dp4aTile;

/** `error` is against the exact product. With 8-bit x, `us` is the product alone and `quantisedUs` includes quantising x. */
async function gemm(owner: Gpu, format: WeightFormat, [rows, columns]: readonly [number, number], stepRows: number, tile: ProductTile) {
  const gpu = owner.share();
  try {
    const stride = paddedColumns(columns);
    const x = seededRandom("x").normal([stepRows, stride]);
    for (let row = 0; row < stepRows; row++) x.fill(0, row * stride + columns, (row + 1) * stride);
    const { matrix, rowProduct } = await randomMatrix(gpu, { format, rows, columns });
    const y = gpu.createBuffer("y", stepRows * rows * 4, "scratch", usage()).view();
    const state = upload(gpu, "state", encodeState(Array.from({ length: stepRows }, () => ({})))).view();
    const options = { format, rows, columns, bias: false, epilogue: "store", yStride: rows, yOffset: 0 } as const;
    const tensors = { state, x: upload(gpu, "x", x).view(), ...matrix.rowTensors(0, 0, rows), y };
    const { step, quantise } = await bindProduct(gpu, options, tile, tensors, stepRows);
    const shape = { rows: stepRows, positions: stepRows };
    // First: it writes what the product alone reads.
    const quantisedMs =
      quantise &&
      (await gpuTime(gpu, {
        encode(pass) {
          quantise.encode(pass, shape);
          step.encode(pass, shape);
        },
      }));
    const ms = await gpuTime(gpu, { encode: (pass) => step.encode(pass, shape) });
    const last = new Float32Array(await readback(gpu, y)).subarray((stepRows - 1) * rows);
    const error = largestError(last, rows, (row) => rowProduct(row, x.subarray((stepRows - 1) * stride)));
    const times = { us: 1000 * ms, ...(quantisedMs !== null && { quantisedUs: 1000 * quantisedMs }) };
    return { format, rows, columns, stepRows, tile: tileName(tile), ...times, tflops: (2 * rows * columns * stepRows) / ms / 1e9, error };
  } finally {
    gpu.dispose();
  }
}

function tileName(tile: ProductTile): string {
  return typeof tile === "string" ? tile : `dp4a ${tile.rows}x${tile.columns} by ${tile.threadRows}x4`;
}

type ProductTensors = Readonly<Record<"state" | "x" | "codes" | "scales" | "y", GpuTensor>>;

/** `quantise` has to run first; null unless the product takes x in 8 bits. */
async function bindProduct(
  gpu: Gpu,
  options: Omit<MatmulTileOptions, "tile">,
  tile: ProductTile,
  { x, ...tensors }: ProductTensors,
  stepRows: number,
): Promise<{ readonly step: BoundKernel<StepShape>; readonly quantise: BoundKernel<StepShape> | null }> {
  const kernels = KernelCache.of(gpu);
  if (typeof tile === "string") {
    const kernel =
      tile === "subgroup-matrix"
        ? await kernels.compile(matmulSubgroupMatrix, options)
        : await kernels.compile(matmulTile, { ...options, tile });
    return { step: kernel.bind({ ...tensors, x }), quantise: null };
  }
  const { format, columns } = options;
  assert(isDp4aFormat(format), `${format} weights are not 8-bit`);
  const groups = (stepRows * paddedColumns(columns)) / GROUP;
  const quantised = {
    x_codes: gpu.createBuffer("x codes", groups * GROUP, "scratch", usage()).view(),
    x_scales: gpu.createBuffer("x scales", groups * 8, "scratch", usage()).view(),
  };
  const [product, quantise] = await Promise.all([
    kernels.compile(matmulDp4a, { ...options, format, tile }),
    kernels.compile(quantiseRows, { columns }),
  ]);
  return { step: product.bind({ ...tensors, ...quantised }), quantise: quantise.bind({ state: tensors.state, x, ...quantised }) };
}

/** The largest error among a few rows, relative to the largest expected value. */
function largestError(y: Float32Array, rows: number, expected: (row: number) => number): number {
  // Spread over the matrix, and at different offsets in the rows that a random matrix repeats.
  const picked = Array.from({ length: CHECKED_ROWS }, (_, i) => (Math.floor((i * rows) / CHECKED_ROWS) + 17 * i) % rows);
  const largest = Math.max(...picked.map((row) => Math.abs(expected(row))));
  return Math.max(...picked.map((row) => Math.abs((y[row] ?? Number.NaN) - expected(row)))) / largest;
}
