// How fast are weights packed on one thread, and what does packing cost in error? Bundled, as the product is: untouched modules call each
// other three times as slowly.   npx rolldown bench/packing.ts -p node -o dist/packing.mjs && node dist/packing.mjs [model.gguf]
// Without a model: normally distributed weights of each type that is not quantised yet. With one: its matrices, by type and format.
import { cpus } from "node:os";
import { openFile } from "../src/bytes/file-source";
import { readGguf } from "../src/formats/gguf";
import { TENSOR_BLOCKS } from "../src/formats/tensor-directory";
import type { WeightFormat } from "../src/weight-format";
import { configFromGguf } from "../src/weights/config-from-gguf";
import { DECODERS } from "../src/weights/dequantise";
import { layerRecipe, outerRecipe, splitRows } from "../src/weights/model-weights";
import { type PackPart, type PackTask, packMatrix } from "../src/weights/pack";
import { readMatrix } from "../src/weights/read-weights";
import { rowsInOrder } from "../src/weights/row-runs";
import { seededRandom } from "../tests/support/random";
import { relativeRms, worstOfGroup } from "../tests/unit/weights/compare";
import { unpackMatrix } from "../tests/unit/weights/unpack-matrix";

const PIECE_BYTES = 4 * 2 ** 20;
// The error is taken from the first rows of a piece only: the tests' reader of the layouts is slow.
const ERROR_ROWS = 64;

class Tally {
  fileBytes = 0;
  packedBytes = 0;
  weights = 0;
  seconds = 0;
  readonly #rms: number[] = [];
  #worst = 0;

  /** Packs one part by itself, so that each stored type is counted alone. */
  add(format: WeightFormat, columns: number, part: PackPart): void {
    const { elements, bytes } = TENSOR_BLOCKS[part.type];
    const rowBytes = (columns / elements) * bytes;
    const alone = (rows: number): PackTask => ({ format, columns, rows, parts: [{ ...part, runs: rowsInOrder(rows) }] });
    const rows = part.bytes.length / rowBytes;
    const before = process.cpuUsage();
    const packed = packMatrix(alone(rows));
    const { user, system } = process.cpuUsage(before);
    this.seconds += (user + system) / 1e6;
    this.fileBytes += part.bytes.length;
    this.packedBytes += packed.codes.length + packed.scales.length;
    this.weights += rows * columns;
    this.#addError(alone(Math.min(rows, ERROR_ROWS)), part);
  }

  #addError(task: PackTask, { type, bytes }: PackPart): void {
    const exact = new Float32Array(task.rows * task.columns);
    DECODERS[type](new DataView(bytes.buffer, bytes.byteOffset), 0, exact, exact.length);
    const packed = unpackMatrix(packMatrix(task));
    this.#rms.push(relativeRms(packed, exact));
    this.#worst = Math.max(this.#worst, worstOfGroup(packed, exact));
  }

  line(name: string): string {
    const perWeight = (bytes: number) => ((8 * bytes) / this.weights).toFixed(2);
    const rms = Math.sqrt(this.#rms.reduce((sum, value) => sum + value * value, 0) / this.#rms.length);
    const speed = `${(this.fileBytes / 1e6 / this.seconds).toFixed(0)} MB/s of file, ${(this.weights / 1e6 / this.seconds).toFixed(0)} M weights/s`;
    const error =
      rms === 0 ? "exact" : `error ${(100 * rms).toFixed(3)} % RMS, ${(100 * this.#worst).toFixed(3)} % of a group's largest at most`;
    return `${name.padEnd(14)} ${perWeight(this.fileBytes)} → ${perWeight(this.packedBytes)} bits/weight; ${speed}; ${error}`;
  }
}

async function packModel(path: string, tallies: Map<string, Tally>): Promise<void> {
  const directory = await readGguf(await openFile(path));
  const config = await configFromGguf(directory);
  const layers = Array.from({ length: config.layerCount }, (_, layer) => layerRecipe(config, directory, layer));
  for (const recipe of [outerRecipe(config, directory), ...layers].flatMap(({ matrices }) => matrices)) {
    for (const piece of splitRows(recipe, PIECE_BYTES)) {
      const { parts, format, columns } = await readMatrix(piece.recipe);
      for (const part of parts) tallyOf(tallies, `${part.type} → ${format}`).add(format, columns, part);
    }
  }
}

function packRandom(tallies: Map<string, Tally>): void {
  const rows = 1024;
  const columns = 2048;
  const weights = seededRandom("packing").normal([rows, columns], 0.02);
  const asF32 = new Uint8Array(weights.buffer);
  const asBF16 = new Uint8Array(Uint16Array.from(new Uint32Array(weights.buffer), (bits) => bits >>> 16).buffer);
  const asF16 = packMatrix({
    format: "f16",
    rows,
    columns,
    parts: [{ where: "", type: "F32", bytes: asF32, runs: rowsInOrder(rows) }],
  }).codes;
  for (const [type, bytes] of [
    ["F32", asF32],
    ["BF16", asBF16],
    ["F16", asF16],
  ] as const) {
    for (const format of ["f32", "f16", "q8", "q4"] as const) {
      const name = `${type} → ${format}`;
      for (let repeat = 0; repeat < 5; repeat++) tallyOf(tallies, name).add(format, columns, { where: name, type, bytes, runs: [] });
    }
  }
}

function tallyOf(tallies: Map<string, Tally>, name: string): Tally {
  const tally = tallies.get(name) ?? new Tally();
  tallies.set(name, tally);
  return tally;
}

const tallies = new Map<string, Tally>();
const [, , path] = process.argv;
if (path === undefined) packRandom(tallies);
else await packModel(path, tallies);
const total = [...tallies.values()].reduce((sum, { seconds }) => sum + seconds, 0);
console.log(`${path ?? "random weights"} on ${cpus()[0]?.model}, Node ${process.version}: ${total.toFixed(2)} s of one core`);
for (const [name, tally] of tallies) console.log(tally.line(name));
