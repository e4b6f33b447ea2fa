// A model repository that comes in three stages: the tiny one with an MLP 46 times as wide, so that its layers take a while to arrive (3 MB each), but
// little to compute. It is the same function: each row is there 46 times, and each column of the last product counts a forty-sixth.
import { type RepositoryFile, tinyRepository } from "./tiny-repository";

const TIMES = 46;
const STAGES = [
  { name: "A", layers: [0, 1, 5], quality: { sameFirstChoice: 0.84, text: "192 held-out chats" } },
  { name: "B", layers: [0, 1, 2, 3, 5], quality: { sameFirstChoice: 0.88, text: "192 held-out chats" } },
  { name: "C", layers: [0, 1, 2, 3, 4, 5], quality: { sameFirstChoice: 1, text: "192 held-out chats" } },
];

interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  /** BF16. */
  readonly values: Uint16Array;
}

export interface StagedRepository {
  readonly files: readonly RepositoryFile[];
  /** Where each stage's last byte lies in model.safetensors: the stages follow one another. */
  readonly stageEnds: readonly number[];
  /** Bytes of the weights that each stage adds. */
  readonly stageBytes: readonly number[];
}

export function stagedRepository(): StagedRepository {
  const tiny = new Map(tinyRepository().map((file) => [file.name, file]));
  const tensors = readTensors(contentOf(tiny, "model.safetensors")).map(widened);
  const stageOf = ({ name }: Tensor) => {
    const layer = /\.layers\.(\d+)\./.exec(name)?.[1];
    return layer === undefined ? 0 : STAGES.findIndex(({ layers }) => layers.includes(Number(layer)));
  };
  const inOrder = tensors.sort((a, b) => stageOf(a) - stageOf(b));
  const weights = writeTensors(inOrder);
  const stageBytes = STAGES.map((_, stage) =>
    inOrder.filter((tensor) => stageOf(tensor) === stage).reduce((sum, { values }) => sum + values.byteLength, 0),
  );
  const headerBytes = weights.length - stageBytes.reduce((sum, bytes) => sum + bytes, 0);
  const stageEnds = stageBytes.map((_, stage) => stageBytes.slice(0, stage + 1).reduce((sum, bytes) => sum + bytes, headerBytes));
  const config = JSON.parse(contentOf(tiny, "config.json").toString()) as { intermediate_size: number };
  const changed: Readonly<Record<string, Buffer>> = {
    "config.json": Buffer.from(JSON.stringify({ ...config, intermediate_size: TIMES * config.intermediate_size })),
    "model.safetensors": weights,
    "progressive.json": Buffer.from(JSON.stringify({ format: "crescendo-progressive", version: 1, stages: STAGES })),
  };
  const files = [...new Set([...tiny.keys(), ...Object.keys(changed)])].map((name) => ({
    name,
    mimeType: "application/octet-stream",
    buffer: changed[name] ?? contentOf(tiny, name),
  }));
  return { files, stageEnds, stageBytes };
}

function contentOf(files: ReadonlyMap<string, RepositoryFile>, name: string): Buffer {
  const file = files.get(name);
  if (!file) throw new Error(`the tiny repository has no ${name}`);
  return file.buffer;
}

function widened(tensor: Tensor): Tensor {
  const { name, shape, values } = tensor;
  const [rows = 1, columns = 1] = shape;
  if (/\.mlp\.(gate|up)_proj\./.test(name)) {
    const wide = new Uint16Array(TIMES * values.length);
    for (let time = 0; time < TIMES; time++) wide.set(values, time * values.length);
    return { name, shape: [TIMES * rows, columns], values: wide };
  }
  if (!/\.mlp\.down_proj\./.test(name)) return tensor;
  const shares = values.map((value) => bfloat(float(value) / TIMES));
  const wide = new Uint16Array(TIMES * values.length);
  for (let row = 0; row < rows; row++) {
    const share = shares.subarray(row * columns, (row + 1) * columns);
    for (let time = 0; time < TIMES; time++) wide.set(share, (row * TIMES + time) * columns);
  }
  return { name, shape: [rows, TIMES * columns], values: wide };
}

function readTensors(file: Buffer): Tensor[] {
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString()) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return Object.entries(header).flatMap(([name, { dtype, shape, data_offsets }]) => {
    if (name === "__metadata__") return [];
    if (dtype !== "BF16") throw new Error(`${name} is ${dtype}, expected BF16`);
    const [start, end] = data_offsets;
    const bytes = Uint8Array.from(file.subarray(8 + headerBytes + start, 8 + headerBytes + end));
    return [{ name, shape, values: new Uint16Array(bytes.buffer) }];
  });
}

function writeTensors(tensors: readonly Tensor[]): Buffer {
  let offset = 0;
  const entries = tensors.map(({ name, shape, values }) => {
    const start = offset;
    offset += values.byteLength;
    return [name, { dtype: "BF16", shape, data_offsets: [start, offset] }] as const;
  });
  const json = JSON.stringify(Object.fromEntries(entries));
  const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, ...tensors.map(({ values }) => Buffer.from(values.buffer, values.byteOffset, values.byteLength))]);
}

const scratch = new DataView(new ArrayBuffer(4));

function float(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** Cut off, not rounded: nobody compares it. */
function bfloat(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0) >>> 16;
}
