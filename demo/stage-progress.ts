// Sums up an engine's events by stage: what has arrived, which stage answers, and when.
import type { EngineEvent, StageEvent, StageInfo, StagePlan } from "../src/index";
import { TransferSpeed } from "./transfer-speed";

const STALLED_BELOW = 20_000; // bytes a second; slower gives no useful time left
const IDLE_AFTER_MS = 300; // on a working connection chunks arrive more often

export interface StageFailure {
  readonly stage: StageInfo;
  readonly reason: string;
}

export class StageProgress {
  plan: StagePlan | null = null;
  stages: readonly StageInfo[] = [];
  /** Index of the stage that answers; -1 before the first does. */
  answering = -1;
  /** Index of a stage that has arrived and is about to take over. */
  landing: number | null = null;
  isPaused = false;
  failure: StageFailure | null = null;
  /** The device was lost, and the current stage is loading again for another. */
  isRecovering = false;
  /** From the load's start to the first stage's answer. */
  answeringMs: number | null = null;
  /** From the load's start to the whole model's answer. */
  landedMs = 0;
  /**
   * When the whole model would have begun to answer: the arrival of its last bytes, less the idle time after the first stage (a pause, compiling
   * kernels, an answer that uses the connection alone). Null while unknown, and after a failure.
   */
  wholeMs: number | null = null;
  readonly #startMs: number;
  /** Index of the stage that is loading; one past the last when all have arrived. */
  #coming = 0;
  #loadedBytes = 0;
  /** Loaded bytes before the loading stage, including those discarded by a failure. */
  #loadedBefore = 0;
  /** Received bytes of the loading stage. */
  #receivedBytes = 0;
  #speed = new TransferSpeed();
  #lastByteMs = 0;
  #idleMs = 0;
  #hasFailed = false;

  /** @param startMs From any monotonic clock. */
  constructor(startMs: number) {
    this.#startMs = startMs;
  }

  take(event: EngineEvent, nowMs: number): void {
    switch (event.type) {
      case "bytes-received":
        if (!this.plan || this.isRecovering) return; // headers and vocabulary; or bytes that had arrived before
        this.#noteGap(nowMs);
        this.#receivedBytes += event.bytes;
        this.#speed.add(event.bytes, nowMs);
        this.#noteArrival(nowMs);
        return;
      case "load-progress":
        this.#loadedBytes = event.loadedBytes;
        this.#noteArrival(nowMs);
        return;
      case "device-lost":
        this.isRecovering = true;
        return;
      case "device-restored":
        this.isRecovering = false;
        this.#goBack();
        this.retry();
        return;
      case "stages-planned":
      case "stage-ready":
      case "upgrade-start":
      case "upgrade-failed":
      case "delivery-paused":
      case "delivery-resumed":
        this.#takeStage(event, nowMs);
    }
  }

  /** The visitor retries what failed. */
  retry(): void {
    this.failure = null;
    this.#speed = new TransferSpeed();
  }

  get isLanded(): boolean {
    return this.answering >= 0 && this.answering === this.stages.length - 1;
  }

  get totalBytes(): number {
    return bytesOf(this.stages);
  }

  get arrivedBytes(): number {
    return bytesOf(this.stages.slice(0, this.#coming)) + this.arrivedOf(this.#coming);
  }

  /** Arrived bytes of the stage. */
  arrivedOf(index: number): number {
    const bytes = this.stages[index]?.bytes ?? 0;
    if (index !== this.#coming) return index < this.#coming ? bytes : 0;
    return Math.min(bytes, Math.max(this.#loadedBytes - this.#loadedBefore, this.#receivedBytes));
  }

  /** The stage that is loading or held back; null when all have arrived. */
  get coming(): StageInfo | null {
    return this.stages[this.#coming] ?? null;
  }

  /** Time until the loading stage has arrived; null while unknown. */
  secondsLeft(nowMs: number): number | null {
    const speed = this.#speed.bytesPerSecond(nowMs);
    if (!this.coming || this.isPaused || this.failure || speed === null || speed < STALLED_BELOW) return null;
    return (this.coming.bytes - this.arrivedOf(this.#coming)) / speed;
  }

  #takeStage(event: StageEvent, nowMs: number): void {
    switch (event.type) {
      case "stages-planned":
        this.plan = event.plan;
        this.stages = event.stages;
        return;
      case "stage-ready":
        this.#arrive(event.stage.index, nowMs);
        if (event.stage.index === 0) this.#begin(nowMs);
        this.answering = event.stage.index;
        if (this.landing !== null && this.landing <= this.answering) this.landing = null;
        if (event.isLast) this.landedMs = nowMs - this.#startMs;
        return;
      case "upgrade-start":
        this.#arrive(event.stage.index, nowMs);
        this.landing = event.stage.index;
        return;
      case "upgrade-end": // stage-ready follows
      case "upgrade-superseded": // by one that started
      case "snapshot-failed":
        return;
      case "upgrade-failed":
        this.#fail(event);
        return;
      case "delivery-paused":
        this.isPaused = true;
        return;
      case "delivery-resumed":
        this.isPaused = false;
        this.#speed = new TransferSpeed();
        return;
      default:
        event satisfies never;
    }
  }

  #begin(nowMs: number): void {
    this.answeringMs = nowMs - this.#startMs;
    this.#speed = new TransferSpeed();
    if (this.stages.length === 1) this.wholeMs = this.answeringMs;
  }

  #noteGap(nowMs: number): void {
    const gapMs = nowMs - this.#lastByteMs;
    if (this.#coming > 0 && gapMs >= IDLE_AFTER_MS) this.#idleMs += gapMs;
    this.#lastByteMs = nowMs;
  }

  #fail({ stage, error }: Extract<StageEvent, { type: "upgrade-failed" }>): void {
    this.failure = { stage, reason: error instanceof Error ? error.message : String(error) };
    this.#goBack();
  }

  /** Discards bytes loaded after the current stage; they will load again. */
  #goBack(): void {
    this.landing = null;
    this.#hasFailed = true;
    this.wholeMs = this.isLanded ? this.wholeMs : null;
    this.#coming = this.answering + 1;
    this.#loadedBefore = this.#loadedBytes;
    this.#receivedBytes = 0;
  }

  #noteArrival(nowMs: number): void {
    const { coming } = this;
    if (!coming || this.arrivedOf(coming.index) < coming.bytes) return;
    this.#noteWhole(coming.index, nowMs);
    if (this.#loadedBytes - this.#loadedBefore >= coming.bytes) this.#advance();
  }

  /** All bytes up to and including the stage have arrived, whatever was counted. */
  #arrive(index: number, nowMs: number): void {
    if (this.#coming > index) return;
    this.#noteWhole(index, nowMs);
    while (this.#coming <= index) this.#advance();
  }

  #advance(): void {
    this.#loadedBefore += this.coming?.bytes ?? 0;
    this.#receivedBytes = 0;
    this.#coming++;
  }

  #noteWhole(index: number, nowMs: number): void {
    if (this.wholeMs !== null || this.#hasFailed || this.answeringMs === null || index < this.stages.length - 1) return;
    this.wholeMs = Math.max(this.answeringMs, nowMs - this.#startMs - this.#idleMs);
  }
}

function bytesOf(stages: readonly StageInfo[]): number {
  return stages.reduce((sum, { bytes }) => sum + bytes, 0);
}
