// Asks a browser for a device with what its adapter offers, and says what to do where there is none.
import { LlmError } from "../errors";
import { noAdapterMessage, noWebGpuMessage, visitorOfPage } from "./browser-support";
import { Completion } from "./completion";

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

export interface OpenOptions {
  /** Leave features unused that the adapter has: for tests, and for drivers whose results are wrong. */
  readonly without?: readonly GpuFeature[];
  /** Ask for WebGPU's default limits instead of the adapter's, to hold code against the smallest device. */
  readonly defaultLimits?: boolean;
}

export interface OpenedDevice {
  readonly device: GPUDevice;
  /** Dawn in Node ends the process when the instance that a device came from is collected. */
  readonly instance: GPU;
  readonly features: GpuFeatures;
  readonly adapterName: string;
  readonly completion: Completion;
}

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
// In 1 of 73 fresh browsers the first adapter gave no device. An adapter gives one at most, so another is asked for as well.
const DEVICE_ATTEMPTS = 4;
const DEVICE_RETRY_MS = 100;

/** `navigator.gpu`, unless another is given. @throws LlmError "no-webgpu" */
export function findWebGpu(given: GPU | undefined): GPU {
  const instance = given ?? globalThis.navigator?.gpu;
  if (!instance) throw new LlmError("no-webgpu", noWebGpuMessage(visitorOfPage()));
  return instance;
}

/** @throws LlmError "no-adapter" */
export async function openDevice(instance: GPU, options: OpenOptions): Promise<OpenedDevice> {
  for (let attempt = 1; ; attempt++) {
    const adapter = await requestAdapter(instance);
    if (!adapter) throw new LlmError("no-adapter", noAdapterMessage(visitorOfPage()));
    try {
      return await openOn(instance, adapter, options);
    } catch (cause) {
      if (attempt === DEVICE_ATTEMPTS) throw noDeviceError(cause);
      await pause(attempt * DEVICE_RETRY_MS);
    }
  }
}

async function openOn(instance: GPU, adapter: GPUAdapter, options: OpenOptions): Promise<OpenedDevice> {
  const info = await infoOf(adapter);
  const without = new Set(options.without ?? []);
  const f16 = adapter.features.has("shader-f16") && !without.has("f16");
  const subgroups = adapter.features.has("subgroups") && !without.has("subgroups");
  const timestamps = adapter.features.has("timestamp-query");
  const subgroupMatrix = f16 && subgroups && !without.has("subgroup-matrix") && multipliesBlocks(adapter, info);
  const requiredFeatures: GPUFeatureName[] = [];
  if (f16) requiredFeatures.push("shader-f16");
  if (subgroups) requiredFeatures.push("subgroups");
  if (subgroupMatrix) requiredFeatures.push(SUBGROUP_MATRIX);
  if (timestamps) requiredFeatures.push("timestamp-query");
  const requiredLimits: Record<string, number> = {};
  if (!options.defaultLimits) for (const limit of LIMITS) requiredLimits[limit] = adapter.limits[limit];
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits, label: "crescendo" });
  const completion = await completionOf(device);
  const { subgroupMinSize, subgroupMaxSize } = info;
  return {
    device,
    instance,
    features: {
      f16,
      subgroups: subgroups ? { min: subgroupMinSize ?? 4, max: subgroupMaxSize ?? 128 } : null,
      subgroupMatrix,
      timestamps,
      software: (info.isFallbackAdapter ?? (adapter as OldAdapter).isFallbackAdapter) === true, // some browsers do not say
    },
    adapterName: [info.vendor, info.architecture, info.description].filter(Boolean).join(" ") || "unknown adapter",
    completion,
  };
}

/** @throws Error for a device that was lost before anybody used it, which WebGPU gives in place of a failure. */
async function completionOf(device: GPUDevice): Promise<Completion> {
  let loss: GPUDeviceLostInfo | null = null;
  void device.lost.then((info) => {
    loss = info;
  });
  const completion = await Completion.of(device);
  if (loss) throw new Error(`it was lost at once (${(loss as GPUDeviceLostInfo).message || "no reason given"})`);
  return completion;
}

/** Before Chrome 127 an adapter's info had to be asked for, and said later whether the adapter is a fallback. */
interface OldAdapter {
  readonly requestAdapterInfo?: () => Promise<Partial<GPUAdapterInfo>>;
  readonly isFallbackAdapter?: boolean;
}

async function infoOf(adapter: GPUAdapter): Promise<Partial<GPUAdapterInfo>> {
  return (adapter.info as GPUAdapterInfo | undefined) ?? (await (adapter as OldAdapter).requestAdapterInfo?.()) ?? {};
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

function multipliesBlocks({ features }: GPUAdapter, info: Partial<GPUAdapterInfo>): boolean {
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
    await pause(ADAPTER_RETRY_MS);
  }
  return null;
}

function noDeviceError(cause: unknown): LlmError {
  const why = cause instanceof Error ? cause.message : cause;
  return new LlmError("no-adapter", `The graphics adapter gave no device: ${why}. Restart the browser, or update the graphics driver.`, {
    cause,
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
