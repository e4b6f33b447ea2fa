// Runs operations chosen from a seed and tells of every fault, with the operations before it.
import type { Engine } from "../../src/index";
import { seededRandom } from "../support/random";
import { GOLDEN_CASES } from "../support/test-model";
import { describeError } from "./invariants";
import { KNOWN_FAULTS, type KnownFault } from "./known-faults";
import { chooseOperation, OPERATIONS } from "./operations";
import { choosePhase, type Family } from "./phases";
import { quiet } from "./quiet";
import { SoakGpu } from "./soak-gpu";
import { World } from "./world";

export interface SoakOptions {
  readonly seed: string;
  /** Ends after so many. */
  readonly operations: number;
  /** Ends after so long. */
  readonly minutes?: number;
  /** Operations on one model. Default 400. */
  readonly phaseOperations?: number;
  /** Operations between two quiet points, at most. Default 25. */
  readonly quietEvery?: number;
  /** Index of the first operation: what came before it is left out. */
  readonly first?: number;
  readonly families?: readonly Family[];
  /** A promise that is open for longer hangs. Default 60 s. */
  readonly patienceMs?: number;
  readonly known?: readonly KnownFault[];
  /** Whose device, and compiled kernels, everything uses: it is then not lost. */
  readonly shareDeviceWith?: Engine;
  /** Of a thousand operations, of a fault. */
  readonly onLine?: (line: string) => void;
}

export interface SoakResult {
  readonly operations: number;
  readonly seconds: number;
  readonly faults: readonly string[];
  /** How often each fault was seen that is known to stand. */
  readonly known: ReadonlyMap<string, number>;
}

const LOG_LENGTH = 40;
const MAX_FAULTS = 20;

export async function soak(options: SoakOptions): Promise<SoakResult> {
  const start = performance.now();
  const log = new SoakLog(options);
  const stopListening = listenForStrays((error) => log.fault(`nobody caught ${describeError(error)}`));
  const gpu = new SoakGpu();
  const shared = options.shareDeviceWith?.shareDevice();
  const release = shared ? gpu.adopt(shared.device) : () => undefined;
  const shareDeviceWith = options.shareDeviceWith ?? null;
  const world = new World({ gpu, shareDeviceWith, patienceMs: options.patienceMs ?? 60_000, onFault: (fault) => log.fault(fault) });
  const seconds = () => (performance.now() - start) / 1000;
  const isOver = () => log.faults.length >= MAX_FAULTS || seconds() > 60 * (options.minutes ?? Number.POSITIVE_INFINITY);
  let index = options.first ?? 0;
  try {
    const end = index + options.operations;
    for (; index < end && !isOver(); index++) {
      await operate(world, index, options, log);
      if ((index + 1) % 1000 === 0) options.onLine?.(`${index + 1} operations, ${seconds().toFixed(0)} s, ${log.faults.length} faults`);
    }
    await runStep(log, () => quiet(world));
    await world.end();
    const left = gpu.liveBuffers();
    if (left.length > 0) log.fault(`when all was disposed of ${left.length} buffers were left: ${[...new Set(left)].join(", ")}`);
    await new Promise((resolve) => setTimeout(resolve, 50)); // rejections that nobody awaits come late
  } finally {
    stopListening();
    release();
    shared?.dispose();
  }
  return { operations: index - (options.first ?? 0), seconds: seconds(), faults: log.faults, known: log.known };
}

async function operate(world: World, index: number, options: SoakOptions, log: SoakLog): Promise<void> {
  const { seed, phaseOperations = 400, quietEvery = 25, families = GOLDEN_CASES, known = KNOWN_FAULTS } = options;
  world.random = seededRandom(`${seed} operation ${index}`);
  const isFirst = index === (options.first ?? 0);
  if (isFirst || index % phaseOperations === 0) {
    const phase = choosePhase(seed, Math.floor(index / phaseOperations), families);
    log.began(`phase: ${JSON.stringify(phase)}`);
    if (!isFirst) await runStep(log, () => quiet(world));
    await world.beginPhase(phase);
  }
  const left = new Set([...known.map(({ operation }) => operation), ...(options.shareDeviceWith ? ["lose device"] : [])]);
  const operation = chooseOperation(
    OPERATIONS.filter(({ name }) => !left.has(name)),
    world.random.next(),
  );
  log.began(`${index} ${operation.name}`);
  await runStep(log, () => world.buryDead());
  await runStep(log, async () => {
    const startMs = performance.now();
    const what = await operation.run(world);
    log.did(`${what} (${Math.round(performance.now() - startMs)} ms)`);
  });
  if ((index + 1) % quietEvery === 0) {
    log.began(`${index} then quiet`);
    const startMs = performance.now();
    await runStep(log, () => quiet(world));
    log.did(`${Math.round(performance.now() - startMs)} ms`);
  }
  await world.breathe();
}

async function runStep(log: SoakLog, step: () => Promise<void>): Promise<void> {
  try {
    await step();
  } catch (error) {
    log.fault(`it threw ${describeError(error)}`);
  }
}

class SoakLog {
  readonly faults: string[] = [];
  readonly known = new Map<string, number>();
  readonly #lines: string[] = [];
  readonly #options: SoakOptions;

  constructor(options: SoakOptions) {
    this.#options = options;
  }

  began(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > LOG_LENGTH) this.#lines.shift();
  }

  did(what: string): void {
    this.#lines.push(`${this.#lines.pop()}: ${what}`);
  }

  fault(what: string): void {
    const { known = KNOWN_FAULTS, seed, onLine } = this.#options;
    const standing = known.find(({ seen }) => seen?.test(what));
    if (standing) {
      this.known.set(standing.fault, (this.known.get(standing.fault) ?? 0) + 1);
      return;
    }
    const text = `FAULT: ${what}\nafter, with seed ${seed}:\n${this.#lines.map((line) => `  ${line}`).join("\n")}`;
    this.faults.push(text);
    onLine?.(text);
  }
}

/** Errors that no promise's owner handled; returns what ends it. */
function listenForStrays(onError: (error: unknown) => void): () => void {
  if (typeof window === "undefined") {
    process.on("unhandledRejection", onError);
    process.on("uncaughtException", onError);
    return () => {
      process.off("unhandledRejection", onError);
      process.off("uncaughtException", onError);
    };
  }
  const onRejection = ({ reason }: PromiseRejectionEvent) => onError(reason);
  const onException = ({ error }: ErrorEvent) => onError(error);
  window.addEventListener("unhandledrejection", onRejection);
  window.addEventListener("error", onException);
  return () => {
    window.removeEventListener("unhandledrejection", onRejection);
    window.removeEventListener("error", onException);
  };
}
