// Where does a step's time go? Times each kernel of a decode step and of a prefill chunk on the model's own buffers, the whole step on the GPU
// without JavaScript, and the time JavaScript takes to encode it.

import type { EngineCore } from "../src/engine/engine-core";
import type { StepShape } from "../src/kernels/step-shape";
import { chunkRows, encodeState } from "../src/kernels/step-state";
import type { Step } from "../src/model/vector-step";
import { encodeInput, encodeLayers } from "../src/model/walk";
import type { ModelFiles } from "../src/repository/model-files";
import { Sampler } from "../src/steps/sampler";
import { resolveSampling, type SamplingSettings } from "../src/steps/sampling-settings";
import { gpuTime, repeatTimes } from "./gpu-time";
import { generate, type LoadedCoreOptions, loadCore, testIds } from "./loaded-core";
import { measureMachine } from "./machine";

export interface StepOptions extends LoadedCoreOptions {
  readonly decodeContexts?: readonly number[];
  /** [rows of the chunk, positions before it]. */
  readonly prefillChunks?: readonly (readonly [number, number])[];
}

interface KernelTime {
  readonly kernel: string;
  readonly us: number;
}

export async function measureStep(files: ModelFiles, options: StepOptions = {}) {
  const {
    decodeContexts = [128, 2048],
    prefillChunks = [
      [256, 0],
      [256, 768],
    ],
    ...load
  } = options;
  const positions = Math.max(...decodeContexts, ...prefillChunks.map(([rows, before]) => rows + before)) + 64;
  const { core, dispose } = await loadCore(files, { contextLength: positions, ...load });
  const { model, gpu } = core;
  const machine = await measureMachine(gpu);
  const lane = model.context.lane;
  const layer = model.slots.findIndex(({ program }) => program);
  const program = model.slots[layer]?.program;
  // After a prefill of the longest sequence, every page that the kernels read exists.
  const sequence = core.createSequence();
  sequence.append(testIds(positions - 8, core.config.vocabSize));
  await generate(core, sequence, 1);
  const setState = (position: number, rows: number) =>
    gpu.device.queue.writeBuffer(
      lane.buffer("state"),
      0,
      encodeState(chunkRows({ position, ids: testIds(rows, core.config.vocabSize), slot: 0, sampledBefore: 0 })),
    );
  const timesOf = async (steps: readonly Step[], shape: StepShape): Promise<KernelTime[]> => {
    const times: KernelTime[] = [];
    for (const step of steps) {
      const ms = await gpuTime(gpu, { encode: (pass) => step.encode(pass, shape), batches: 2 });
      times.push({ kernel: step.name, us: 1000 * ms });
    }
    return times;
  };
  const decode = [];
  for (const context of decodeContexts) {
    setState(context, 1);
    const shape = { rows: 1, positions: context + 1 };
    const layerSteps = (context + 1 > 256 ? program?.decodeSplit : program?.decode) ?? [];
    const kernels = await timesOf(layerSteps, shape);
    const layers = await repeatTimes(gpu, { encode: (pass) => model.encodeDecode(pass, shape) });
    const layersMs = layers.gpuMs ?? layers.wallMs;
    const headMs = await gpuTime(gpu, { encode: (pass) => model.encodeHead(pass, 1) });
    const encodeMs = await encodingTime(core.gpu.device, (pass) => {
      model.encodeDecode(pass, shape);
      model.encodeHead(pass, 1);
    });
    decode.push({ context, layerDispatches: layerSteps.length, layersMs, layersWallMs: layers.wallMs, headMs, encodeMs, kernels });
  }
  const prefill = [];
  for (const [rows, before] of prefillChunks) {
    setState(before, rows);
    const shape = { rows, positions: before + rows };
    const walk = model.walk;
    const kernels = await timesOf(walk.layer(layer, shape), shape);
    const chunkMs = await gpuTime(gpu, {
      encode: (pass) => {
        encodeInput(pass, walk, shape, 0);
        encodeLayers(pass, walk, shape, 0, model.slots.length);
      },
    });
    prefill.push({ rows, before, chunkMs, kernels });
  }
  const sampling = [];
  for (const [kind, settings] of Object.entries(SAMPLINGS)) sampling.push({ kind, us: 1000 * (await samplingTime(core, settings)) });
  dispose();
  return { model: files.name, adapter: gpu.adapterName, machine, decode, prefill, sampling };
}

const SAMPLINGS: Readonly<Record<string, SamplingSettings>> = {
  greedy: { temperature: 0 },
  plain: { temperature: 1 },
  filtered: { temperature: 0.7, topK: 40, topP: 0.9 },
};

/** Milliseconds of both dispatches, on the current logits. Advances the state. */
async function samplingTime({ model: { context }, gpu }: EngineCore, settings: SamplingSettings): Promise<number> {
  const sampler = await Sampler.create(context);
  try {
    sampler.begin(0, resolveSampling(settings, context.config.vocabSize), [], []);
    return await gpuTime(gpu, { encode: (pass) => sampler.encode(pass, 1) });
  } finally {
    sampler.destroy();
  }
}

async function encodingTime(device: GPUDevice, encode: (pass: GPUComputePassEncoder) => void): Promise<number> {
  const REPEATS = 200;
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  const start = performance.now();
  for (let i = 0; i < REPEATS; i++) encode(pass);
  const spent = performance.now() - start;
  pass.end();
  device.queue.submit([encoder.finish()]);
  await device.queue.onSubmittedWorkDone();
  return spent / REPEATS;
}
