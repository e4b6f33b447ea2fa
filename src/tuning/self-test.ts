// Runs small products with known results through the kernel variants that use subgroups, subgroup matrices or 8-bit dot products (dp4a): some
// drivers miscompile these.
import { LlmError } from "../errors";
import type { TrackedBuffer } from "../gpu/buffer";
import type { Gpu, GpuFeatures } from "../gpu/device";
import { type Kernel, KernelCache } from "../gpu/kernel";
import { readback } from "../gpu/readback";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import { type MatmulDp4aOptions, matmulDp4a } from "../kernels/matmul-dp4a";
import { type MatmulSubgroupMatrixOptions, matmulSubgroupMatrix } from "../kernels/matmul-subgroup-matrix";
import { type GemvTuning, type MatmulVectorOptions, matmulVector } from "../kernels/matmul-vector";
import { quantiseRows } from "../kernels/quantise-rows";
import { rmsNorm } from "../kernels/rms-norm";
import type { StepShape } from "../kernels/step-shape";
import { encodeState } from "../kernels/step-state";
import { GROUP, rowCodeBytes, rowScaleBytes } from "../weight-format";

/** A kernel variant that the device supports and the engine does not use, because it failed the self-test. */
export interface RejectedVariant {
  readonly variant: "subgroups" | "subgroup-matrix" | "dp4a";
  /** Names the kernel and its fault. */
  readonly reason: string;
  /** The kernel's largest error, relative to the largest expected value. Infinity if it did not run or returned NaN. */
  readonly error: number;
}

/** Kernels to run one after the other, their inputs by binding name and the expected `y`. */
export interface KnownProduct {
  readonly variant: RejectedVariant["variant"];
  /** For error messages. */
  readonly name: string;
  /** Rows of x. */
  readonly rows: number;
  readonly inputs: Readonly<Record<string, Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>>>;
  readonly expected: Float32Array;
  compile(kernels: KernelCache): Promise<readonly Kernel<string, StepShape>[]>;
}

const MAX_ERROR = 1e-3; // relative: a missing lane is about 1e-2, rounding less than 1e-6

/** Variants that are off by default: only engines that use them test them. */
export interface AskedVariants {
  readonly dp4a: boolean;
}

/** The result of each variant tested so far; null if it passed. */
type Verdicts = Map<RejectedVariant["variant"], RejectedVariant | null>;

const verdicts = new WeakMap<GPUDevice, Verdicts>();

/**
 * The variants that engines on this device must not use. Each variant is tested once a device. Software adapters are not tested: compiling the
 * kernels would take seconds there.
 *
 * @throws LlmError "device-lost" | "out-of-memory" | "disposed"
 */
export async function rejectedVariants(gpu: Gpu, asked?: AskedVariants): Promise<readonly RejectedVariant[]> {
  if (gpu.features.software) return [];
  const known: Verdicts = verdicts.get(gpu.device) ?? new Map();
  const products = knownProducts(gpu.features, asked);
  const untested = products.filter(({ variant }) => !known.has(variant));
  const rejected = await testVariants(gpu, untested);
  for (const { variant } of untested) known.set(variant, rejected.find((each) => each.variant === variant) ?? null);
  verdicts.set(gpu.device, known);
  return [...new Set(products.map(({ variant }) => variant))].flatMap((variant) => known.get(variant) ?? []);
}

/** Returns at most one rejection for each variant. @throws like `rejectedVariants` */
export async function testVariants(gpu: Gpu, products: readonly KnownProduct[]): Promise<readonly RejectedVariant[]> {
  const failures = await Promise.all(products.map((product) => failureOf(gpu, product)));
  const firsts = new Map<string, RejectedVariant>();
  for (const failure of failures) if (failure && !firsts.has(failure.variant)) firsts.set(failure.variant, failure);
  return [...firsts.values()];
}

async function failureOf(gpu: Gpu, product: KnownProduct): Promise<RejectedVariant | null> {
  const { variant, name, expected } = product;
  let failure: RejectedVariant;
  try {
    const error = largestError(await answersOf(gpu, product), expected);
    if (error <= MAX_ERROR) return null;
    failure = { variant, reason: `${name} computes wrong results on ${gpu.adapterName}`, error };
  } catch (error) {
    if (!(error instanceof LlmError && error.code === "gpu-error")) throw (await gpu.lossError()) ?? error;
    failure = { variant, reason: error.message, error: Number.POSITIVE_INFINITY };
  }
  // The results of a lost device say nothing about the variant.
  const loss = await gpu.lossError();
  if (loss) throw loss;
  return failure;
}

async function answersOf(gpu: Gpu, { name, rows, inputs, expected, compile }: KnownProduct): Promise<Float32Array> {
  const chain = await compile(new KernelCache(gpu)); // not the engine's: no other code uses these kernels
  const buffers = new Map<string, TrackedBuffer>();
  const free = () => {
    for (const buffer of buffers.values()) buffer.destroy();
  };
  const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_DST | BUFFER_USAGE.COPY_SRC;
  const create = (binding: string, bytes: number) => {
    const buffer = gpu.createBuffer(`self-test ${binding}`, bytes, "scratch", usage);
    buffers.set(binding, buffer);
    return buffer;
  };
  const encode = () => {
    for (const [binding, contents] of Object.entries({ state: encodeState(Array.from({ length: rows }, () => ({}))), ...inputs })) {
      gpu.device.queue.writeBuffer(create(binding, contents.byteLength).raw, 0, contents);
    }
    const y = create("y", expected.byteLength).view();
    const encoder = gpu.device.createCommandEncoder({ label: "self-test" });
    const pass = encoder.beginComputePass();
    const tensors = Object.fromEntries([...buffers].map(([binding, buffer]) => [binding, buffer.view()]));
    for (const kernel of chain) kernel.bind(tensors).encode(pass, { rows, positions: rows });
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
    return y;
  };
  try {
    return new Float32Array(await readback(gpu, await gpu.checked(`the self-test of ${name}`, encode, free)));
  } finally {
    free();
  }
}

function largestError(answers: Float32Array, expected: Float32Array): number {
  const errors = expected.map((value, index) => Math.abs((answers[index] ?? Number.NaN) - value));
  const error = Math.max(...errors) / Math.max(...expected.map(Math.abs));
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

/** The products that test the variants a device with these features would use. */
export function knownProducts(
  { subgroups, subgroupMatrix }: Pick<GpuFeatures, "subgroups" | "subgroupMatrix">,
  { dp4a }: AskedVariants = { dp4a: false },
): KnownProduct[] {
  return [
    ...(subgroups ? [vectorProduct(32, 128), vectorProduct(64, 256), norm()] : []),
    ...(subgroupMatrix ? [matrixProduct()] : []),
    ...(dp4a ? [byteProduct()] : []),
  ];
}

const STORED = { format: "q4m", bias: false, epilogue: "store", yOffset: 0 } as const;

// More columns than are staged at once, and not a multiple of the lanes: their loops end at different times, and they have to reconverge. Every
// lane has a share of each row.
const VECTOR = { rows: 24, columns: 70 * GROUP };

function vectorProduct(lanes: number, workgroupSize: number): KnownProduct {
  const tuning: GemvTuning = { lanes, rowsPerThread: 1, workgroupSize, staged: true };
  const options: MatmulVectorOptions = { ...STORED, ...VECTOR, yStride: VECTOR.rows, subgroups: true, tuning };
  return {
    ...{ variant: "subgroups", name: `matmul-vector with ${lanes} lanes a row`, rows: 1 },
    ...product(VECTOR, 1, smallInteger),
    compile: async (kernels) => [await kernels.compile(matmulVector, options)],
  };
}

// Neither dimension is a multiple of the tile.
const MATRIX = { rows: 65, columns: 3 * GROUP };
const MATRIX_X_ROWS = 70;

function matrixProduct(): KnownProduct {
  const options: MatmulSubgroupMatrixOptions = { ...STORED, ...MATRIX, yStride: MATRIX.rows };
  return {
    ...{ variant: "subgroup-matrix", name: "matmul-subgroup-matrix", rows: MATRIX_X_ROWS },
    ...product(MATRIX, MATRIX_X_ROWS, smallInteger),
    compile: async (kernels) => [await kernels.compile(matmulSubgroupMatrix, options)],
  };
}

/** `x` is exact in 8 bits: the largest value of each group is 127, so its scale is 1. */
function byteProduct(): KnownProduct {
  const options: MatmulDp4aOptions = { ...STORED, ...MATRIX, yStride: MATRIX.rows };
  const { inputs, expected } = product(MATRIX, MATRIX_X_ROWS, (index) => (index % GROUP === 0 ? 127 : scattered(index, 255) - 127));
  const bytes = { x_codes: new Uint8Array(inputs.x.length), x_scales: new Float32Array((2 * inputs.x.length) / GROUP) };
  return {
    ...{ variant: "dp4a", name: "matmul-dp4a after quantise-rows", rows: MATRIX_X_ROWS, inputs: { ...inputs, ...bytes }, expected },
    compile: (kernels) => Promise.all([kernels.compile(quantiseRows, MATRIX), kernels.compile(matmulDp4a, options)]),
  };
}

function norm(): KnownProduct {
  const [rows, columns, epsilon] = [3, 36 * GROUP, 1e-5];
  const x = Float32Array.from({ length: rows * columns }, (_, index) => scattered(index, 9) - 4);
  const weight = Float32Array.from({ length: columns }, (_, column) => 2 ** (scattered(column, 4) - 2));
  const expected = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const values = x.subarray(row * columns, (row + 1) * columns);
    const squares = values.reduce((sum, value) => sum + value * value, 0);
    expected.set(
      values.map((value, column) => (value / Math.sqrt(squares / columns + epsilon)) * (weight[column] ?? 0)),
      row * columns,
    );
  }
  return {
    ...{ variant: "subgroups", name: "rms-norm", rows, inputs: { x, weight }, expected },
    compile: async (kernels) => [await kernels.compile(rmsNorm, { columns, epsilon, subgroups: true })],
  };
}

const smallInteger = (index: number) => scattered(index, 8) - 3;

/** X·Wᵀ of integers and a q4m matrix whose weights are multiples of 1/8: every sum is exact, in f32 and on matrix units. */
function product({ rows, columns }: { readonly rows: number; readonly columns: number }, xRows: number, xAt: (index: number) => number) {
  const x = Float32Array.from({ length: xRows * columns }, (_, index) => xAt(index));
  const codes = new Uint8Array(rows * rowCodeBytes("q4m", columns));
  const scales = new Uint8Array(rows * rowScaleBytes("q4m", columns));
  const scaleView = new DataView(scales.buffer);
  const expected = new Float32Array(xRows * rows);
  for (let row = 0; row < rows; row++) {
    const weights = new Float32Array(columns);
    for (let first = 0; first < columns; first += GROUP) {
      const group = (row * columns + first) / GROUP;
      const [scale, minimum] = [-3 + scattered(group, 2), scattered(group, 3) - 1]; // powers of two
      scaleView.setUint16(group * 4, halfPower(scale), true);
      scaleView.setUint16(group * 4 + 2, halfPower(minimum) | 0x8000, true);
      for (let i = 0; i < GROUP; i++) {
        const code = scattered(group * GROUP + i, 16);
        const at = group * (GROUP / 2) + (i % (GROUP / 2));
        codes[at] = (codes[at] ?? 0) | (i < GROUP / 2 ? code : code << 4);
        weights[first + i] = 2 ** scale * code - 2 ** minimum;
      }
    }
    for (let xRow = 0; xRow < xRows; xRow++) {
      let sum = 0; // a plain loop for speed: half a million iterations while a page loads
      for (let column = 0; column < columns; column++) sum += (weights[column] ?? 0) * (x[xRow * columns + column] ?? 0);
      expected[xRow * rows + row] = sum;
    }
  }
  return { inputs: { x, codes, scales }, expected };
}

/** A pseudo-random integer from 0 to `count` - 1 that depends on `index` alone. */
function scattered(index: number, count: number): number {
  const mixed = Math.imul(index + 1, 0x9e3779b1);
  return (Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b) >>> 16) % count;
}

/** 2 ** exponent as the bits of an f16. */
function halfPower(exponent: number): number {
  return (exponent + 15) << 10;
}
