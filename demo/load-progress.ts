// What the events of a load add up to until the model answers: its phase, how much has arrived, how fast, and how long it will take.
import type { EngineEvent } from "../src/index";
import { TransferSpeed } from "./transfer-speed";

/** Reading headers, then weights on their way, then the last of them moving to the GPU while shaders compile. */
export type LoadPhase = "opening" | "receiving" | "finishing";

export type ByteOrigin = Extract<EngineEvent, { type: "bytes-received" }>["origin"];

const STALLED_BELOW = 20_000; // bytes a second: too slow to be called a speed

export class LoadProgress {
  phase: LoadPhase = "opening";
  /** Where the weights come from; the network where any of them do. Null before the first. */
  origin: ByteOrigin | null = null;
  adapter: string | null = null;
  totalBytes = 0;
  /** With the first stage, which answers. */
  firstBytes = 0;
  loadMs = 0;
  /** Something that the reader should know, or null. */
  note: string | null = null;
  #receivedBytes = 0;
  #loadedBytes = 0;
  #speed = new TransferSpeed();

  /** @param nowMs Of any clock that only goes forward. */
  take(event: EngineEvent, nowMs: number): void {
    switch (event.type) {
      case "load-start":
        this.phase = "receiving";
        this.origin = null;
        this.totalBytes = event.totalBytes;
        this.firstBytes = event.totalBytes; // until the plan says better
        this.adapter = event.adapter;
        this.#receivedBytes = 0; // until here it was headers and vocabulary
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
        this.note = "Some bytes came wrong, and are read once more.";
        return;
      case "ranges-unsupported":
        this.note = "This server sends files only whole.";
        return;
      case "cache-unavailable":
        this.note = "This browser cannot keep a copy, so the next visit downloads again.";
        return;
      case "offline-cache-used":
        this.note = "The network does not answer: using the copy kept in this browser.";
    }
  }

  /** Bytes of the first stage that are here. A retry brings some twice, and a header's read may have brought some before. */
  get arrivedBytes(): number {
    return Math.min(this.firstBytes, Math.max(this.#receivedBytes, this.#loadedBytes));
  }

  /** Of the first stage: half for what has arrived, half for what is on the GPU; 0 to 1. */
  get share(): number {
    return this.firstBytes === 0 ? 0 : (this.arrivedBytes + Math.min(this.firstBytes, this.#loadedBytes)) / (2 * this.firstBytes);
  }

  bytesPerSecond(nowMs: number): number | null {
    return this.phase === "receiving" ? this.#speed.bytesPerSecond(nowMs) : null;
  }

  /** Nothing comes, although weights are missing. */
  isStalled(nowMs: number): boolean {
    const speed = this.bytesPerSecond(nowMs);
    return speed !== null && speed < STALLED_BELOW;
  }

  /** Null while it cannot be told. */
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
