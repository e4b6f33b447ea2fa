// Bytes from JavaScript to the GPU: in bulk through staging buffers that are mapped, filled and copied from in turn. `queue.writeBuffer` is for what is
// small: a browser moves it through another process in pieces of its own, on an H100 1 GB/s where mapped memory takes 4 to 7.
import { present } from "../assert";
import type { LlmError } from "../errors";
import { BUFFER_USAGE, MAP_MODE } from "./webgpu-flags";

/** What uploads need of the device that they go to. */
interface UploadTarget {
  readonly device: GPUDevice;
  mapped(buffer: GPUBuffer, mode: GPUMapModeFlags): Promise<void>;
  checkLive(): void;
  lossError(): Promise<LlmError | null>;
}

/** Bytes that go to a place in a buffer; offset and length are multiples of 4. */
export interface Upload {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

// Small, so that no piece holds up the page or the steps submitted beside it; enough of them that one is mapped while others are on their way.
const STAGING_BYTES = 2 ** 20;
const STAGING_COUNT = 4;
// Up to here no staging is made or waited for: rows of an embedding that a prompt needs, say.
const SMALL_BYTES = 64 * 2 ** 10;
// An application that switches between conversations restores one after another.
const LINGER_MS = 10_000;

/** A staging buffer, and when it is mapped next. */
interface Staging {
  readonly buffer: GPUBuffer;
  mapped: Promise<void>;
  isFreed: boolean;
}

export class Uploads {
  readonly #gpu: UploadTarget;
  #staging: readonly Staging[] = [];
  #turn = 0;
  #users = 0;
  #lingering: ReturnType<typeof setTimeout> | undefined;

  constructor(gpu: UploadTarget) {
    this.#gpu = gpu;
  }

  /** Keeps the staging buffers while `act` writes more than once, and so much longer: to make them takes some 5 ms. */
  async during<T>(act: () => Promise<T>, lingerMs = LINGER_MS): Promise<T> {
    this.#users++;
    clearTimeout(this.#lingering);
    try {
      return await act();
    } finally {
      if (--this.#users === 0) {
        if (lingerMs === 0) this.#free();
        else this.#lingering = setTimeout(() => this.#free(), lingerMs);
      }
    }
  }

  /**
   * Resolves when the bytes were taken and all copies are submitted: what is submitted from then on sees them. The buffers must live until then, or
   * the signal abort before they go.
   *
   * @throws LlmError "device-lost" | "disposed"; the signal's reason.
   */
  async write(uploads: readonly Upload[], signal?: AbortSignal): Promise<void> {
    if (uploads.reduce((sum, { bytes }) => sum + bytes.byteLength, 0) <= SMALL_BYTES) {
      this.#gpu.checkLive();
      signal?.throwIfAborted();
      for (const { buffer, offset, bytes } of uploads) this.#gpu.device.queue.writeBuffer(buffer, offset, bytes);
      return;
    }
    await this.during(async () => {
      for (const piece of inPieces(uploads)) await this.#send(piece, signal);
    });
  }

  /** Frees what it holds; writes under way fail. */
  dispose(): void {
    clearTimeout(this.#lingering);
    this.#free();
  }

  async #send(piece: readonly Upload[], signal: AbortSignal | undefined): Promise<void> {
    this.#gpu.checkLive();
    if (this.#staging.length === 0) this.#staging = createStaging(this.#gpu);
    const staging = present(this.#staging[this.#turn++ % STAGING_COUNT], "staging buffer");
    const sent = staging.mapped.then(() => {
      signal?.throwIfAborted();
      this.#copy(staging.buffer, piece);
    });
    staging.mapped = heardLater(sent.catch(() => undefined).then(() => map(this.#gpu, staging)));
    try {
      await sent;
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw (await this.#gpu.lossError()) ?? error;
    }
  }

  #copy(staging: GPUBuffer, piece: readonly Upload[]): void {
    const { device } = this.#gpu;
    const into = new Uint8Array(staging.getMappedRange());
    const encoder = device.createCommandEncoder();
    let from = 0;
    for (const { buffer, offset, bytes } of piece) {
      into.set(bytes, from);
      encoder.copyBufferToBuffer(staging, from, buffer, offset, bytes.byteLength);
      from += bytes.byteLength;
    }
    staging.unmap();
    device.queue.submit([encoder.finish()]);
  }

  #free(): void {
    for (const staging of this.#staging) {
      staging.isFreed = true;
      staging.buffer.destroy();
    }
    this.#staging = [];
  }
}

function createStaging(gpu: UploadTarget): Staging[] {
  const usage = BUFFER_USAGE.MAP_WRITE | BUFFER_USAGE.COPY_SRC;
  return Array.from({ length: STAGING_COUNT }, () => {
    const staging = {
      buffer: gpu.device.createBuffer({ label: "upload", size: STAGING_BYTES, usage }),
      mapped: Promise.resolve(),
      isFreed: false,
    };
    staging.mapped = heardLater(map(gpu, staging));
    return staging;
  });
}

/** Mapped it stays where a write was called off before it began. */
async function map(gpu: UploadTarget, { buffer, isFreed }: Staging): Promise<void> {
  if (!isFreed && buffer.mapState === "unmapped") await gpu.mapped(buffer, MAP_MODE.WRITE);
}

/** A promise whose failure is heard by whoever awaits it next, if anybody ever does. */
function heardLater<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** The same bytes in lists that fit a staging buffer each. */
export function inPieces(uploads: readonly Upload[], pieceBytes = STAGING_BYTES): Upload[][] {
  const pieces: Upload[][] = [];
  let room = 0;
  for (const { buffer, offset, bytes } of uploads) {
    for (let from = 0; from < bytes.byteLength; ) {
      if (room === 0) {
        pieces.push([]);
        room = pieceBytes;
      }
      const part = bytes.subarray(from, from + room);
      pieces.at(-1)?.push({ buffer, offset: offset + from, bytes: part });
      from += part.byteLength;
      room -= part.byteLength;
    }
  }
  return pieces;
}
