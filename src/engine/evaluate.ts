// The logits of every position of a list of ids, as a chat would compute them: for tests against references and for perplexity.
import { LlmError } from "../errors";
import { readback } from "../gpu/readback";
import type { StepShape } from "../kernels/step-shape";
import { checkIds, type Sequence, type TokenId } from "./sequence";
import type { Stepper } from "./stepper";

export interface EvaluationRequest {
  readonly ids: readonly TokenId[];
  /** Rows of a chunk; 1 runs the decode kernels, unless `hidden` is asked for. Default: the engine's chunkRows. */
  readonly chunk?: number;
  /** Also the residual: after the embedding and after each layer, the last one after the final norm. */
  readonly hidden?: boolean;
  readonly signal?: AbortSignal;
  /** Called with each chunk's logits, [rows, vocab], in order. The arrays are the caller's. */
  readonly onLogits: (firstRow: number, logits: Float32Array) => void;
}

export interface Evaluation {
  /** [layerCount + 1][ids, hiddenSize], if asked for. */
  readonly hidden: readonly Float32Array[];
}

/** @throws LlmError "bad-request" when the ids do not fit the context or the vocabulary; the signal's reason. */
export async function evaluate(
  stepper: Stepper,
  sequence: Sequence,
  request: EvaluationRequest,
  reserve: (positions: number) => boolean,
  contextLength: number,
): Promise<Evaluation> {
  const { ids, signal } = request;
  checkIds(ids, stepper.model.context.config.vocabSize);
  if (ids.length > contextLength || !reserve(ids.length)) {
    throw new LlmError(
      "bad-request",
      `${ids.length} ids do not fit the context of ${contextLength} positions. Set contextLength higher or pass fewer.`,
    );
  }
  const { config, gpu, scratch } = stepper.model.context;
  const rowBytes = config.vocabSize * 4;
  const fitting = Math.floor(gpu.maxBindingBytes / rowBytes);
  const chunk = Math.max(1, Math.min(request.chunk ?? stepper.options.chunkRows, stepper.options.chunkRows, fitting));
  const hidden = request.hidden
    ? Array.from({ length: config.layerCount + 1 }, () => new Float32Array(ids.length * config.hiddenSize))
    : [];
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC;
  const logits = await gpu.checked(
    "the logits of a chunk",
    () => gpu.createBuffer("all logits", Math.min(chunk, ids.length) * rowBytes, "scratch", usage),
    (made) => made.destroy(),
  );
  try {
    sequence.append(ids);
    const headRows = stepper.model.bindHeadRows(logits.view());
    for (let first = 0; first < ids.length; first += chunk) {
      signal?.throwIfAborted();
      const rows = Math.min(chunk, ids.length - first);
      stepper.begin(sequence, first, ids.slice(first, first + rows));
      const read = (layer: number, name: "x" | "normed") =>
        hidden[layer] ? readRows(stepper, name, rows, hidden[layer].subarray(first * config.hiddenSize)) : undefined;
      if (rows === 1 && !request.hidden) {
        stepper.submit((pass) => {
          stepper.model.encodeDecode(pass, first + 1);
          stepper.model.encodeHead(pass, 1);
        });
        request.onLogits(first, new Float32Array(await readback(gpu, scratch.tensor("logits"))).subarray(0, config.vocabSize));
      } else {
        const shape: StepShape = { rows, positions: first + rows };
        stepper.submit((pass) => stepper.model.encodeEmbedding(pass, shape));
        await read(0, "x");
        for (let layer = 0; layer < config.layerCount; layer++) {
          stepper.submit((pass) => stepper.model.encodePrefill(pass, shape, layer, layer + 1));
          if (layer + 1 < config.layerCount) await read(layer + 1, "x");
        }
        stepper.submit((pass) => {
          for (const step of headRows) step.encode(pass, shape);
        });
        await read(config.layerCount, "normed");
        request.onLogits(first, new Float32Array(await readback(gpu, logits.view(0, rows * rowBytes))));
      }
      sequence.markCached(first + rows);
    }
  } finally {
    logits.destroy();
  }
  return { hidden };
}

/** Copies `rows` rows of an activation, without their padding, to the front of `into`. */
async function readRows(stepper: Stepper, name: "x" | "normed", rows: number, into: Float32Array): Promise<void> {
  const { gpu, scratch, config } = stepper.model.context;
  const stride = scratch.strides.hidden;
  const values = new Float32Array(await readback(gpu, { ...scratch.tensor(name), bytes: rows * stride * 4 }));
  for (let row = 0; row < rows; row++) into.set(values.subarray(row * stride, row * stride + config.hiddenSize), row * config.hiddenSize);
}
