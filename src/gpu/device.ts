// A WebGPU device with its users: memory is counted, errors and loss are made known.
import { LlmError } from "../errors";
import { type GpuMemoryCategory, TrackedBuffer } from "./buffer";
import type { Completion } from "./completion";
import { findWebGpu, type GpuFeatures, type OpenedDevice, type OpenOptions, openDevice } from "./open-device";
import { Uploads } from "./uploads";

export type { GpuFeature, GpuFeatures } from "./open-device";

export interface GpuOptions extends OpenOptions {
  /** Where to look for WebGPU; `navigator.gpu` unless given (Node passes Dawn's). */
  readonly gpu?: GPU;
  /** Bind at most this many bytes at once, though the device could bind more: for tests of matrices that are split. */
  readonly maxBindingBytes?: number;
}

type BindingOptions = Pick<GpuOptions, "maxBindingBytes">;

/** The device and what all that share it have in common. */
interface SharedDevice extends OpenedDevice {
  users: number;
}

export class Gpu {
  readonly #shared: SharedDevice;
  readonly device: GPUDevice;
  readonly features: GpuFeatures;
  readonly adapterName: string;
  /** The most bytes of a buffer that a kernel can bind. Whatever may be larger is split. */
  readonly maxBindingBytes: number;
  /** The way for what is large: weights, snapshots. */
  readonly uploads: Uploads;
  /** Resolves when the device is lost; never when it was destroyed by `dispose`. */
  readonly lost: Promise<GPUDeviceLostInfo>;
  #loss: GPUDeviceLostInfo | null = null;
  readonly #errorListeners = new Set<(error: Pick<GPUError, "message">) => void>();
  readonly #onUncaptured = ({ error }: GPUUncapturedErrorEvent) => this.tellError(error);
  readonly #completion: Completion;
  readonly #live = new Set<TrackedBuffer>();
  #disposed = false;

  private constructor(shared: SharedDevice, { maxBindingBytes = Number.POSITIVE_INFINITY }: BindingOptions) {
    const { device } = shared;
    const { maxStorageBufferBindingSize, maxBufferSize } = device.limits;
    shared.users++;
    this.maxBindingBytes = Math.min(maxBindingBytes, maxStorageBufferBindingSize, maxBufferSize);
    this.#shared = shared;
    this.device = device;
    this.features = shared.features;
    this.adapterName = shared.adapterName;
    this.#completion = shared.completion;
    this.uploads = new Uploads(this);
    device.addEventListener("uncapturederror", this.#onUncaptured);
    this.lost = new Promise((resolve) => {
      void device.lost.then((info) => {
        if (this.#disposed) return;
        this.#loss = info;
        resolve(info);
      });
    });
  }

  /** @throws LlmError "no-webgpu" | "no-adapter" */
  static async request(options: GpuOptions = {}): Promise<Gpu> {
    const instance = findWebGpu(options.gpu); // fails before anything else begins
    return new Gpu({ ...(await openDevice(instance, options)), users: 0 }, options);
  }

  /**
   * Another user of the same device, with buffers of its own. The device goes when its last user is disposed of.
   *
   * @throws LlmError "disposed"
   */
  share(options: BindingOptions = {}): Gpu {
    this.checkLive();
    return new Gpu(this.#shared, options);
  }

  /**
   * The device's loss as an error, if it is lost by now. A lost device does what it is told and computes nothing; only mapping a buffer
   * fails, a moment before `lost` resolves.
   */
  async lossError(): Promise<LlmError | null> {
    // On a lost device a browser may end such a wait, fail it or leave it open.
    await Promise.race([this.workDone().catch(() => undefined), this.device.lost]);
    return this.#loss && deviceLostError(this.#loss, this.adapterName);
  }

  /** Resolves when all work submitted so far is done. Nothing else waits for the queue: on a device that polls this is quick, and the queue is not. */
  workDone(): Promise<void> {
    return this.#completion.workDone();
  }

  /** Resolves when the range of the buffer is mapped, the whole of it unless given. Nothing else calls `mapAsync`, as with `workDone`. */
  mapped(buffer: GPUBuffer, mode: GPUMapModeFlags, offset?: number, bytes?: number): Promise<void> {
    return this.#completion.mapped(buffer, mode, offset, bytes);
  }

  /** Whether the browser looks for finished work from time to time only, as Firefox does: see `Completion`. */
  get polls(): boolean {
    return this.#completion.polls;
  }

  get limits(): GPUSupportedLimits {
    return this.device.limits;
  }

  /**
   * Counts towards `memory()` until destroyed. Zero-initialised, as WebGPU has it.
   *
   * @throws LlmError "out-of-memory" when no buffer of this device can be so large; "disposed": what still runs then leaves nothing behind.
   */
  createBuffer(label: string, bytes: number, category: GpuMemoryCategory, usage: GPUBufferUsageFlags): TrackedBuffer {
    this.checkLive();
    if (bytes > this.device.limits.maxBufferSize) {
      throw new LlmError(
        "out-of-memory",
        `${label} needs a buffer of ${bytes.toLocaleString("en")} bytes; this device allows ${this.device.limits.maxBufferSize.toLocaleString("en")}.`,
      );
    }
    // Multiples of 16, so that shaders may view any buffer as vec4.
    const raw = this.device.createBuffer({ label, size: Math.max(16, Math.ceil(bytes / 16) * 16), usage });
    const buffer = new TrackedBuffer(raw, label, category, () => this.#live.delete(buffer));
    this.#live.add(buffer);
    return buffer;
  }

  /** Live bytes by category, and how many buffers hold them. What `uploads` holds for a while is memory of the CPU's, and not counted. */
  memory(): {
    readonly weights: number;
    readonly kv: number;
    readonly scratch: number;
    readonly total: number;
    readonly bufferCount: number;
  } {
    const sums = { weights: 0, kv: 0, scratch: 0 };
    for (const buffer of this.#live) sums[buffer.category] += buffer.bytes;
    return { ...sums, total: sums.weights + sums.kv + sums.scratch, bufferCount: this.#live.size };
  }

  /**
   * Runs `build`, which allocates, and waits for the device's verdict. Synchronous on purpose: error scopes are a stack of the
   * whole device, and another task's must not come between.
   *
   * @throws LlmError "out-of-memory" | "gpu-error"; `undo` then gets what `build` made, to free it.
   */
  async checked<T>(what: string, build: () => T, undo: (made: T) => void): Promise<T> {
    this.device.pushErrorScope("validation");
    this.device.pushErrorScope("out-of-memory");
    let made: T;
    let verdicts: Promise<[GPUError | null, GPUError | null]>;
    try {
      made = build();
    } finally {
      verdicts = Promise.all([this.device.popErrorScope(), this.device.popErrorScope()]);
      verdicts.catch(() => undefined); // a lost device rejects them: `lost` tells of that
    }
    const [outOfMemory, validation] = await verdicts;
    if (!outOfMemory && !validation) return made;
    undo(made);
    if (outOfMemory) {
      throw new LlmError(
        "out-of-memory",
        `The graphics device has no memory left for ${what}: ${outOfMemory.message} Close other tabs, use a smaller model or a shorter context.`,
      );
    }
    throw new LlmError("gpu-error", `The device refused ${what}: ${validation?.message}`);
  }

  /** Calls `listener` for errors that no scope caught, of all users of the device: WebGPU does not say whose. Returns the function that ends it. */
  onError(listener: (error: Pick<GPUError, "message">) => void): () => void {
    this.#errorListeners.add(listener);
    return () => this.#errorListeners.delete(listener);
  }

  /** Tells the listeners of an error that ends nothing. */
  tellError(error: Pick<GPUError, "message">): void {
    for (const listener of this.#errorListeners) listener(error);
  }

  /** Frees every buffer made here, and the device if nobody else uses it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.device.removeEventListener("uncapturederror", this.#onUncaptured);
    this.uploads.dispose();
    for (const buffer of [...this.#live]) buffer.destroy();
    if (--this.#shared.users === 0) this.device.destroy();
  }

  /** @throws LlmError "disposed" */
  checkLive(): void {
    if (this.#disposed) throw new LlmError("disposed", "This engine was disposed. Load it again with loadEngine.");
  }
}

export function deviceLostError({ reason, message }: GPUDeviceLostInfo, adapterName: string): LlmError {
  const why = (message || "no reason given").replace(/\.$/, "");
  return new LlmError("device-lost", `The graphics device (${adapterName}) was lost (${reason}): ${why}. Load the engine again.`);
}
