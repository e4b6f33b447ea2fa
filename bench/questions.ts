// What can be asked, of a page and of Node alike.
import { present } from "../src/assert";
import { locateModel, type ModelFiles } from "../src/repository/model-files";
import { measureAttention } from "./attention";
import { measureBusy } from "./busy";
import { measureLoad } from "./load";
import { measureGemm, measureGemv } from "./products";
import { measureSpeed } from "./speed";
import { measureStep } from "./step";
import { isSynthetic, syntheticModel } from "./synthetic-model";
import { measureTuning } from "./tuning";
import { measureUpgrade } from "./upgrade";

type Options = Record<string, unknown>;

/** Every question takes its options as JSON would give them, with `gpu` beside; some need no model. */
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
  load: ofModel(measureLoad),
  tune: ofModel(measureTuning),
  upgrade: ofModel(measureUpgrade),
};

/** @throws Error naming what there is. */
export function question(name: string): Question {
  const found = QUESTIONS[name];
  if (!found) throw new Error(`no question "${name}"; there are ${Object.keys(QUESTIONS).join(", ")}`);
  return found;
}

/** The files at a URL, read anew each time unless they may come from the browser's cache, or a synthetic model's. */
export function filesOf(place: string | null, cache = false): ModelFiles | null {
  if (place === null) return null;
  return isSynthetic(place) ? syntheticModel(place) : locateModel(place, { cache });
}
