// Several sequences that decode in one step, on the model and its lane alone: each says what it says by itself, whatever its place and its
// neighbours, and goes on after a prefill of another has had the lane.
import { expect, test } from "vitest";
import type { EngineCore } from "../../src/engine/engine-core";
import { readback } from "../../src/gpu/readback";
import { SAMPLE_RESULT_BYTES, SAMPLE_STOP } from "../../src/kernels/sample-pick";
import { encodeInput, encodeLayers } from "../../src/model/walk";
import { LaneFeed } from "../../src/steps/lane-feed";
import { Sampler } from "../../src/steps/sampler";
import { resolveSampling, type SamplingSettings } from "../../src/steps/sampling-settings";
import type { Sequence } from "../../src/steps/sequence";
import { submitPass } from "../../src/steps/stepper";
import { generateAfresh, loadTestCore } from "../support/test-core";
import { readGolden } from "../support/test-model";

interface Speaker {
  readonly sequence: Sequence;
  readonly slot: number;
  readonly settings: SamplingSettings;
  readonly stopIds: readonly number[];
  readonly said: number[];
}

const STEPS = 8;
const CONTEXT = 128;

class Batch {
  readonly #core: EngineCore;
  readonly #sampler: Sampler;
  readonly #feed: LaneFeed;

  constructor(core: EngineCore, sampler: Sampler) {
    this.#core = core;
    this.#sampler = sampler;
    this.#feed = new LaneFeed(core.gpu, core.model.context.lane, core.model.slots.length);
  }

  /** Prefills all that the speaker's sequence holds, samples from its last row and leaves that in the slot's seat. */
  async begin({ sequence, slot, settings, stopIds, said }: Speaker): Promise<void> {
    const { model, gpu } = this.#core;
    const ids = sequence.tokens;
    expect(sequence.reserve(CONTEXT)).toBe(true);
    this.#feed.uploadPages(slot, sequence.parts);
    this.#sampler.begin(slot, resolveSampling(settings, this.#core.config.vocabSize), stopIds, ids, 0);
    this.#feed.beginChunk({ position: 0, ids, slot, sampledBefore: 0 });
    const shape = { rows: ids.length, positions: ids.length };
    submitPass(gpu, (pass) => {
      encodeInput(pass, model.walk, shape, 0);
      encodeLayers(pass, model.walk, shape, 0, model.slots.length);
    });
    const [token] = await this.#sample(1, { after: (encoder) => this.#feed.park(encoder, [{ row: ids.length - 1, slot }]) });
    said.push(token ?? -1);
  }

  /** One step of all of them, from their seats and back. */
  async step(speakers: readonly Speaker[]): Promise<void> {
    const slots = speakers.map(({ slot }) => slot);
    const tokens = await this.#sample(slots.length, {
      before: (encoder) => this.#feed.seat(encoder, slots),
      isDecode: true,
      after: (encoder) =>
        this.#feed.park(
          encoder,
          slots.map((slot, row) => ({ row, slot })),
        ),
    });
    speakers.forEach(({ said }, row) => {
      const token = tokens[row];
      if (token !== null) said.push(token ?? -1);
    });
  }

  /** The tokens of the last rows; null where a run had ended. */
  async #sample(rows: number, { before, isDecode = false, after }: SampleOptions): Promise<(number | null)[]> {
    const { model, gpu } = this.#core;
    const encoder = gpu.device.createCommandEncoder();
    before?.(encoder);
    const pass = encoder.beginComputePass();
    if (isDecode) model.encodeDecode(pass, { rows, positions: CONTEXT });
    model.encodeHead(pass, rows);
    this.#sampler.encode(pass, rows);
    pass.end();
    after(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    const bytes = rows * SAMPLE_RESULT_BYTES;
    const words = new Uint32Array(await readback(gpu, { buffer: this.#sampler.result, offset: 0, bytes }));
    return Array.from({ length: rows }, (_, row) => (words[row * 4 + 1] === SAMPLE_STOP.afterStop ? null : (words[row * 4] ?? -1)));
  }
}

interface SampleOptions {
  readonly before?: (encoder: GPUCommandEncoder) => void;
  readonly isDecode?: boolean;
  readonly after: (encoder: GPUCommandEncoder) => void;
}

// RMSNorm within the products, and LayerNorm before them.
for (const folder of ["llama-gqa", "falcon-mqa-parallel"]) {
  test(`sequences of ${folder} that decode together say what each says alone`, { timeout: 120_000 }, async () => {
    const { ids } = await readGolden(`tests/golden/${folder}`);
    const core = await loadTestCore(`tests/golden/${folder}`, { contextLength: CONTEXT, poolLength: 8 * CONTEXT, chunkRows: 64 });
    try {
      const prompts: readonly (readonly [number, readonly number[], SamplingSettings])[] = [
        [5, ids.slice(0, 3), { temperature: 0 }],
        [0, ids.slice(0, 33), { temperature: 1, seed: 5 }],
        [7, ids.slice(4, 20), { temperature: 2, topK: 40, repetitionPenalty: 1.3, seed: 6 }],
        [2, ids.slice(1, 18), { temperature: 1, topP: 0.9, seed: 7 }],
      ];
      const expected: (readonly number[])[] = [];
      for (const [, prompt, settings] of prompts) expected.push(await generateAfresh(core, prompt, { ...settings, maxTokens: STEPS }));
      // The third ends at its fourth token, and is in the steps after that all the same.
      const stop = expected[2]?.[3] ?? -1;
      const end = (expected[2]?.indexOf(stop) ?? 0) + 1;
      const sampler = await Sampler.create(core.model.context);
      const speakers = prompts.map(([slot, prompt, settings], index): Speaker => {
        const sequence = core.createSequence();
        sequence.append(prompt);
        return { sequence, slot, settings, stopIds: index === 2 ? [stop] : [], said: [] };
      });
      const [late] = speakers.slice(3);
      if (!late) throw new Error("four speakers");
      await core.takeTurn(async () => {
        const batch = new Batch(core, sampler);
        const early = speakers.slice(0, 3);
        for (const speaker of early) await batch.begin(speaker);
        for (let step = 0; step < 2; step++) await batch.step(early);
        await batch.begin(late);
        for (let step = 0; step < STEPS - 3; step++) await batch.step([late, ...early]);
      });
      sampler.destroy();
      expect(speakers.map(({ said }) => said)).toEqual([
        expected[0],
        expected[1],
        expected[2]?.slice(0, end),
        expected[3]?.slice(0, STEPS - 2),
      ]);
      for (const { sequence } of speakers) await core.releaseSequence(sequence);
    } finally {
      core.dispose();
    }
  });
}
