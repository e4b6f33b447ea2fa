// Does decoding keep the GPU busy? Every pass of real answers has timestamps: what share of the time between the first and the last are they?

import { present } from "../src/assert";
import type { Gpu } from "../src/gpu/device";
import { PassClock } from "../src/gpu/pass-clock";
import type { ModelFiles } from "../src/repository/model-files";
import { generate, type LoadedCoreOptions, loadCore, testIds } from "./loaded-core";
import { measureMachine } from "./machine";

export interface BusyOptions extends LoadedCoreOptions {
  readonly contexts?: readonly number[];
  readonly tokens?: number;
}

/** @throws Error if the device has no timestamps */
export async function measureBusy(files: ModelFiles, { contexts = [128, 2048], tokens = 256, ...options }: BusyOptions = {}) {
  const { core, dispose } = await loadCore(files, { contextLength: Math.max(...contexts) + tokens + 64, ...options });
  try {
    const { gpu } = core;
    if (!gpu.features.timestamps) throw new Error(`${gpu.adapterName} has no timestamps`);
    const machine = await measureMachine(gpu);
    const results = [];
    for (const context of contexts) {
      const sequence = core.createSequence();
      sequence.append(testIds(context, core.config.vocabSize));
      const decode = async (maxTokens: number) => {
        const times: number[] = [];
        await generate(core, sequence, maxTokens, () => times.push(performance.now()) > 0);
        return times;
      };
      await decode(16); // warm
      const plain = await decode(tokens);
      const { times, passes, dispatches } = await withTimestamps(gpu, tokens + 16, () => decode(tokens));
      const wallMs = (of: readonly number[]) => (present(of.at(-1), "token") - present(of[0], "token")) / (of.length - 1);
      // The first pass is the prefill of the previous answer's last token.
      const steps = passes.slice(-(tokens - 1));
      const busyMs = steps.reduce((sum, { start, end }) => sum + end - start, 0);
      const spanMs = present(steps.at(-1), "step").end - present(steps[0], "step").start;
      results.push({
        context,
        msPerToken: wallMs(plain),
        msPerTokenWithTimestamps: wallMs(times),
        gpuMsPerToken: busyMs / steps.length,
        busy: busyMs / spanMs,
        dispatchesPerToken: dispatches / passes.length,
      });
    }
    return { model: files.name, adapter: gpu.adapterName, machine, busy: results };
  } finally {
    dispose();
  }
}

/** Adds timestamps to every pass that `act` encodes, and counts dispatches. */
async function withTimestamps(gpu: Gpu, maxPasses: number, act: () => Promise<number[]>) {
  const { device } = gpu;
  const clock = new PassClock(gpu, maxPasses);
  let count = 0;
  let dispatches = 0;
  const createCommandEncoder = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    const encoder = createCommandEncoder(descriptor);
    const beginComputePass = encoder.beginComputePass.bind(encoder);
    encoder.beginComputePass = () => {
      const pass = beginComputePass(count < maxPasses ? { timestampWrites: clock.writes(count++) } : {});
      const dispatchWorkgroups = pass.dispatchWorkgroups.bind(pass);
      pass.dispatchWorkgroups = (x, y, z) => {
        dispatches++;
        dispatchWorkgroups(x, y, z);
      };
      return pass;
    };
    return encoder;
  };
  try {
    const times = await act();
    device.createCommandEncoder = createCommandEncoder;
    return { times, passes: await clock.read(count), dispatches };
  } finally {
    device.createCommandEncoder = createCommandEncoder;
    clock.destroy();
  }
}
