// Sums up the events of a load until the model answers: phase, bytes arrived, speed and time left.
import type { EngineEvent } from "../src/index";
import { TransferSpeed } from "./transfer-speed";

/** Phases: reading headers, receiving weights, then moving the last of them to the GPU while shaders compile. */
export type LoadPhase = "opening" | "receiving" | "finishing";

export type ByteOrigin = Extract<EngineEvent, { type: "bytes-received" }>["origin"];

const STALLED_BELOW = 20_000; // bytes a second; slower counts as stalled

export class LoadProgress {
  phase: LoadPhase = "opening";
  /** Source of the weights; the network if any of them come from there. Null before the first. */
  origin: ByteOrigin | null = null;
  adapter: string | null = null;
  totalBytes = 0;
  /** Bytes of the first stage, which can answer. */
  firstBytes = 0;
  loadMs = 0;
  /** A notice for the visitor, or null. */
  note: string | null = null;
  #receivedBytes = 0;
  #loadedBytes = 0;
  #speed = new TransferSpeed();

  /** @param nowMs From any monotonic clock. */
  take(event: EngineEvent, nowMs: number): void {
    switch (event.type) {
      case "load-start":
        this.phase = "receiving";
        this.origin = null;
        this.totalBytes = event.totalBytes;
        this.firstBytes = event.totalBytes; // until the plan is known
        this.adapter = event.adapter;
        this.#receivedBytes = 0; // earlier bytes were headers and vocabulary
        this.#speed = new TransferSpeed();
        return;
      case "stages-planned":
        this.firstBytes = event.stages[0]?.bytes ?? this.totalBytes;
        return;
      case "bytes-received":
        this.#takeBytes(event.bytes, event.origin, nowMs);
        return;
      case "load-progress":
        this.#loadedBytes = event.loadedBytes;
        return;
      case "load-end":
        this.#loadedBytes = this.firstBytes;
        this.loadMs = event.loadMs;
        return;
      case "fetch-retry":
        this.note = "The connection was interrupted; trying again.";
        return;
      case "hash-mismatch":
        this.note = "Some bytes were damaged on the way; reading them again.";
        return;
      case "ranges-unsupported":
        this.note = "This server cannot send parts of a file, so files load in order.";
        return;
      case "cache-unavailable":
        this.note = "This browser cannot keep a copy, so the next visit downloads again.";
        return;
      case "offline-cache-used":
        this.note = "The network does not answer: using the copy kept in this browser.";
    }
  }

  /** Arrived bytes of the first stage. A retry delivers some twice, and reading the header may have delivered some before. */
  get arrivedBytes(): number {
    return Math.min(this.firstBytes, Math.max(this.#receivedBytes, this.#loadedBytes));
  }

  /** Progress of the first stage, 0 to 1: half for arrived bytes, half for bytes on the GPU. */
  get share(): number {
    return this.firstBytes === 0 ? 0 : (this.arrivedBytes + Math.min(this.firstBytes, this.#loadedBytes)) / (2 * this.firstBytes);
  }

  bytesPerSecond(nowMs: number): number | null {
    return this.phase === "receiving" ? this.#speed.bytesPerSecond(nowMs) : null;
  }

  /** Whether no bytes arrive although weights are missing. */
  isStalled(nowMs: number): boolean {
    const speed = this.bytesPerSecond(nowMs);
    return speed !== null && speed < STALLED_BELOW;
  }

  /** Null while unknown. */
  secondsLeft(nowMs: number): number | null {
    const speed = this.bytesPerSecond(nowMs);
    return speed === null || this.isStalled(nowMs) ? null : (this.firstBytes - this.arrivedBytes) / speed;
  }

  #takeBytes(bytes: number, origin: ByteOrigin, nowMs: number): void {
    this.#receivedBytes += bytes;
    this.#speed.add(bytes, nowMs);
    if (this.origin !== "network") this.origin = origin;
    if (this.phase === "receiving" && this.arrivedBytes === this.firstBytes) this.phase = "finishing";
  }
}
