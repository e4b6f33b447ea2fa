// The WebGPU device: asked for with what the adapter offers, its memory counted, its errors and its loss made known.
import { LlmError } from "../errors";
import { type GpuMemoryCategory, TrackedBuffer } from "./buffer";
import { Uploads } from "./uploads";

export interface GpuFeatures {
  /** f16 arithmetic in shaders (`shader-f16`). f16 storage never needs it. */
  readonly f16: boolean;
  /** Smallest and largest subgroup size of the adapter, or null where there are no subgroups. */
  readonly subgroups: { readonly min: number; readonly max: number } | null;
  /** Subgroups of 32 multiply 16 × 16 blocks of f16 into f32 (`chromium-experimental-subgroup-matrix`, so far behind a flag). */
  readonly subgroupMatrix: boolean;
  readonly timestamps: boolean;
  /** The adapter computes on the CPU (SwiftShader, WARP), where barriers cost more than the arithmetic between them. */
  readonly software: boolean;
}

/** What a device may have and be told to leave unused. */
export type GpuFeature = "f16" | "subgroups" | "subgroup-matrix";

export interface GpuOptions {
  /** Where to look for WebGPU; `navigator.gpu` unless given (Node passes Dawn's). */
  readonly gpu?: GPU;
  /** Leave features unused that the adapter has: for tests, and for drivers whose results are wrong. */
  readonly without?: readonly GpuFeature[];
  /** Ask for WebGPU's default limits instead of the adapter's, to hold code against the smallest device. */
  readonly defaultLimits?: boolean;
  /** Bind at most this many bytes at once, though the device could bind more: for tests of matrices that are split. */
  readonly maxBindingBytes?: number;
}

type BindingOptions = Pick<GpuOptions, "maxBindingBytes">;

const LIMITS = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
] as const;

// While Chromium's GPU process starts, the first calls answer null.
const ADAPTER_ATTEMPTS = 30;
const ADAPTER_RETRY_MS = 30;

/** The device and what all that share it have in common. */
interface SharedDevice {
  readonly device: GPUDevice;
  /** Dawn in Node ends the process when the instance that a device came from is collected. */
  readonly instance: GPU;
  readonly features: GpuFeatures;
  readonly adapterName: string;
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
  readonly #errorListeners = new Set<(error: GPUError) => void>();
  readonly #onUncaptured = ({ error }: GPUUncapturedErrorEvent) => {
    for (const listener of this.#errorListeners) listener(error);
  };
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
    const gpu = options.gpu ?? globalThis.navigator?.gpu;
    if (!gpu) {
      throw new LlmError(
        "no-webgpu",
        "This browser has no WebGPU. Use Chrome or Edge 113 or later, Safari 26 or Firefox 141 (on a secure page: https or localhost).",
      );
    }
    const adapter = await requestAdapter(gpu);
    if (!adapter) {
      throw new LlmError(
        "no-adapter",
        "WebGPU is there but found no graphics adapter. Turn on hardware acceleration in the browser's settings, or update the graphics driver.",
      );
    }
    const without = new Set(options.without ?? []);
    const f16 = adapter.features.has("shader-f16") && !without.has("f16");
    const subgroups = adapter.features.has("subgroups") && !without.has("subgroups");
    const timestamps = adapter.features.has("timestamp-query");
    const requiredLimits: Record<string, number> = {};
    if (!options.defaultLimits) for (const limit of LIMITS) requiredLimits[limit] = adapter.limits[limit];
    const subgroupMatrix = f16 && subgroups && !without.has("subgroup-matrix") && multipliesBlocks(adapter);
    const requiredFeatures: GPUFeatureName[] = [];
    if (f16) requiredFeatures.push("shader-f16");
    if (subgroups) requiredFeatures.push("subgroups");
    if (subgroupMatrix) requiredFeatures.push(SUBGROUP_MATRIX);
    if (timestamps) requiredFeatures.push("timestamp-query");
    const device = await requestDevice(adapter, { requiredFeatures, requiredLimits, label: "crescendo" });
    const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize, isFallbackAdapter } = adapter.info;
    const shared: SharedDevice = {
      device,
      instance: gpu,
      features: {
        f16,
        subgroups: subgroups ? { min: subgroupMinSize ?? 4, max: subgroupMaxSize ?? 128 } : null,
        subgroupMatrix,
        timestamps,
        software: isFallbackAdapter === true, // older browsers do not say
      },
      adapterName: [vendor, architecture, description].filter(Boolean).join(" ") || "unknown adapter",
      users: 0,
    };
    return new Gpu(shared, options);
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
    await this.device.queue.onSubmittedWorkDone();
    return this.#loss && deviceLostError(this.#loss);
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

  /** Calls `listener` for errors that no scope caught. Returns the function that ends it. */
  onError(listener: (error: GPUError) => void): () => void {
    this.#errorListeners.add(listener);
    return () => this.#errorListeners.delete(listener);
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

export function deviceLostError({ reason, message }: GPUDeviceLostInfo): LlmError {
  return new LlmError("device-lost", `The graphics device was lost (${reason}): ${message || "no reason given"}. Load the engine again.`);
}

// Not in the types of WebGPU yet.
const SUBGROUP_MATRIX = "chromium-experimental-subgroup-matrix" as GPUFeatureName;

interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function multipliesBlocks({ features, info }: GPUAdapter): boolean {
  const { subgroupMatrixConfigs = [] } = info as { readonly subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  if (!features.has(SUBGROUP_MATRIX) || info.subgroupMinSize !== 32 || info.subgroupMaxSize !== 32) return false;
  return [...subgroupMatrixConfigs].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === "f16" && resultComponentType === "f32" && M === 16 && N === 16 && K === 16,
  );
}

async function requestAdapter(gpu: GPU): Promise<GPUAdapter | null> {
  for (let attempt = 0; attempt < ADAPTER_ATTEMPTS; attempt++) {
    const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
    if (adapter) return adapter;
    await new Promise((resolve) => setTimeout(resolve, ADAPTER_RETRY_MS));
  }
  return null;
}

async function requestDevice(adapter: GPUAdapter, descriptor: GPUDeviceDescriptor): Promise<GPUDevice> {
  try {
    return await adapter.requestDevice(descriptor);
  } catch (cause) {
    throw new LlmError(
      "no-adapter",
      `The graphics adapter gave no device: ${cause instanceof Error ? cause.message : cause}. Restart the browser, or update the graphics driver.`,
      { cause },
    );
  }
}
