// The questions that the bench answers, in a page and in Node.
import { present } from "../src/assert";
import { locateModel, type ModelFiles } from "../src/repository/model-files";
import { measureAttention } from "./attention";
import { measureBatch } from "./batch";
import { measureBusy } from "./busy";
import { measureLoad } from "./load";
import { measureGemm, measureGemv } from "./products";
import { measureSpeed } from "./speed";
import { measureStep } from "./step";
import { isSynthetic, syntheticModel } from "./synthetic-model";
import { measureTuning } from "./tuning";
import { measureUpgrade } from "./upgrade";

type Options = Record<string, unknown>;

/** Options are JSON, plus `gpu` in Node. Some questions need no model. */
export type Question = (files: ModelFiles | null, options: Options) => Promise<object>;

const ofKernels =
  (measure: (options: Options) => Promise<object>): Question =>
  (_files, options) =>
    measure(options);

const ofModel =
  (measure: (files: ModelFiles, options: Options) => Promise<object>): Question =>
  (files, options) =>
    measure(present(files, "the model that this question needs"), options);

export const QUESTIONS: Readonly<Record<string, Question>> = {
  gemv: ofKernels(measureGemv),
  gemm: ofKernels(measureGemm),
  attention: ofKernels(measureAttention),
  step: ofModel(measureStep),
  busy: ofModel(measureBusy),
  speed: ofModel(measureSpeed),
  batch: ofModel(measureBatch),
  load: ofModel(measureLoad),
  tune: ofModel(measureTuning),
  upgrade: ofModel(measureUpgrade),
};

/** @throws Error that lists the questions */
export function question(name: string): Question {
  const found = QUESTIONS[name];
  if (!found) throw new Error(`no question "${name}"; there are ${Object.keys(QUESTIONS).join(", ")}`);
  return found;
}

/** The files at a URL, or of a synthetic model. Without `cache` they are downloaded again each time. */
export function filesOf(place: string | null, cache = false): ModelFiles | null {
  if (place === null) return null;
  return isSynthetic(place) ? syntheticModel(place) : locateModel(place, { cache });
}
