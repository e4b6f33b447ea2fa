// The logits of every position of a list of ids, as a chat would compute them: for tests against references and for perplexity.
import { LlmError } from "../errors";
import type { GpuTensor, TrackedBuffer } from "../gpu/buffer";
import { readback } from "../gpu/readback";
import { BUFFER_USAGE } from "../gpu/webgpu-flags";
import type { StepShape } from "../kernels/step-shape";
import { encodeInput, encodeLayers } from "../model/walk";
import { subtractRows } from "../weights/row-set";
import type { Sequence, TokenId } from "./sequence";
import type { Stepper } from "./stepper";

export interface EvaluationRequest {
  readonly ids: readonly TokenId[];
  /** Rows of a chunk, at most the engine's; 1 runs the decode kernels, unless `hidden` is asked for. Default 256. */
  readonly chunk?: number;
  /** Also the residual: after the embedding and after each layer, the last one after the final norm. After an absent layer it is what it was. */
  readonly hidden?: boolean;
  readonly signal?: AbortSignal;
  /** Called with each chunk's logits, [rows, vocab], in order. The arrays are the caller's. */
  readonly onLogits: (firstRow: number, logits: Float32Array) => void;
}

export interface Evaluation {
  /** [layerCount + 1][ids, hiddenSize], if asked for. */
  readonly hidden: readonly Float32Array[];
}

export interface EvaluationStop {
  readonly position: number;
  readonly act: () => Promise<void>;
}

/** What the engine does between chunks of an evaluation. */
export interface EvaluationHooks {
  readonly reserve: (positions: number) => boolean;
  /** Positions that a chunk must not cross, in order, with what happens there: the sequence has all before them cached. */
  readonly stops?: readonly EvaluationStop[];
  /** Between all chunks. */
  readonly between?: () => Promise<void>;
}

/** @throws LlmError "bad-request" when the ids do not fit the context; the signal's reason. */
export async function evaluate(
  stepper: Stepper,
  sequence: Sequence,
  request: EvaluationRequest,
  { reserve, stops = [], between = () => Promise.resolve() }: EvaluationHooks,
  contextLength: number,
): Promise<Evaluation> {
  const { ids, signal } = request;
  if (ids.length > contextLength || !reserve(ids.length)) {
    throw new LlmError(
      "bad-request",
      `${ids.length} ids do not fit the context of ${contextLength} positions. Set contextLength higher or pass fewer.`,
    );
  }
  const chunks = await EvaluationChunks.create(stepper, sequence, request);
  try {
    for (let first = 0; first < ids.length; ) {
      signal?.throwIfAborted();
      for (const { position, act } of stops) {
        if (position !== first) continue;
        await act();
        await between();
      }
      const nextStop = stops.find(({ position }) => position > first)?.position ?? ids.length;
      const rows = Math.min(chunks.rows, ids.length - first, nextStop - first);
      await chunks.run(first, rows);
      sequence.markCached(first + rows);
      first += rows;
      await between();
    }
    return { hidden: chunks.hidden };
  } finally {
    chunks.destroy();
  }
}

/** Runs chunks and reads what comes of them. */
// Logits of more rows than these take more memory than time they save.
const DEFAULT_ROWS = 256;

class EvaluationChunks {
  /** [layers + 1][ids, hiddenSize] */
  readonly hidden: readonly Float32Array[];
  /** Rows of a chunk, at most. */
  readonly rows: number;
  readonly #stepper: Stepper;
  readonly #sequence: Sequence;
  readonly #request: EvaluationRequest;
  readonly #logits: TrackedBuffer;

  private constructor(stepper: Stepper, sequence: Sequence, request: EvaluationRequest, rows: number, logits: TrackedBuffer) {
    const { layerCount, hiddenSize } = stepper.model.context.config;
    this.#stepper = stepper;
    this.#sequence = sequence;
    this.#request = request;
    this.rows = rows;
    this.#logits = logits;
    const floats = request.ids.length * hiddenSize;
    this.hidden = request.hidden ? Array.from({ length: layerCount + 1 }, () => new Float32Array(floats)) : [];
  }

  static async create(stepper: Stepper, sequence: Sequence, request: EvaluationRequest): Promise<EvaluationChunks> {
    const { gpu, config, scratch } = stepper.model.context;
    const { chunkRows } = scratch.layout;
    const rowBytes = config.vocabSize * 4;
    const fitting = Math.floor(gpu.maxBindingBytes / rowBytes);
    const rows = Math.max(1, Math.min(request.chunk ?? DEFAULT_ROWS, chunkRows, fitting));
    const bytes = Math.min(rows, request.ids.length) * rowBytes;
    const usage = BUFFER_USAGE.STORAGE | BUFFER_USAGE.COPY_SRC;
    const logits = await gpu.checked(
      "the logits of a chunk",
      () => gpu.createBuffer("all logits", bytes, "scratch", usage),
      (made) => made.destroy(),
    );
    return new EvaluationChunks(stepper, sequence, request, rows, logits);
  }

  async run(first: number, rows: number): Promise<void> {
    const { ids, hidden, onLogits } = this.#request;
    this.#stepper.begin(this.#sequence, 0, first, ids.slice(first, first + rows));
    const logits = rows === 1 && !hidden ? await this.#runRow(first) : await this.#runRows(first, rows);
    onLogits(first, this.#withoutAbsent(logits, rows));
  }

  destroy(): void {
    this.#logits.destroy();
  }

  async #runRow(first: number): Promise<Float32Array> {
    const { model } = this.#stepper;
    const { gpu, scratch, config } = model.context;
    this.#stepper.submit((pass) => {
      model.encodeDecode(pass, { rows: 1, positions: first + 1 });
      model.encodeHead(pass, 1);
    });
    return new Float32Array(await readback(gpu, { ...scratch.tensor("logits"), bytes: config.vocabSize * 4 }));
  }

  async #runRows(first: number, rows: number): Promise<Float32Array> {
    const { model } = this.#stepper;
    const { gpu, scratch, config, lane } = model.context;
    const { walk } = model;
    const headRows = await model.bindHeadRows(this.#logits.view());
    const shape: StepShape = { rows, positions: first + rows };
    this.#stepper.submit((pass) => encodeInput(pass, walk, shape, 0));
    await this.#readHidden(0, lane.tensor("x"), first, rows);
    for (let layer = 0; layer < config.layerCount; layer++) {
      this.#stepper.submit((pass) => encodeLayers(pass, walk, shape, layer, layer + 1));
      if (layer + 1 < config.layerCount) await this.#readHidden(layer + 1, lane.tensor("x"), first, rows);
    }
    this.#stepper.submit((pass) => {
      for (const step of headRows) step.encode(pass, shape);
    });
    await this.#readHidden(config.layerCount, scratch.tensor("normed"), first, rows);
    return new Float32Array(await readback(gpu, this.#logits.view(0, rows * config.vocabSize * 4)));
  }

  /** Takes `rows` rows of an activation, without their padding, if they were asked for. */
  async #readHidden(index: number, tensor: GpuTensor, first: number, rows: number): Promise<void> {
    const into = this.hidden[index]?.subarray(first * this.#hiddenSize);
    if (!into) return;
    const { gpu, scratch } = this.#stepper.model.context;
    const stride = scratch.strides.hidden;
    const values = new Float32Array(await readback(gpu, { ...tensor, bytes: rows * stride * 4 }));
    for (let row = 0; row < rows; row++) {
      into.set(values.subarray(row * stride, row * stride + this.#hiddenSize), row * this.#hiddenSize);
    }
  }

  /** A token whose head row is absent has no chance. */
  #withoutAbsent(logits: Float32Array, rows: number): Float32Array {
    const { model } = this.#stepper;
    const { vocabSize } = model.context.config;
    for (const { start, end } of subtractRows([{ start: 0, end: vocabSize }], model.headRows)) {
      for (let row = 0; row < rows; row++) logits.fill(Number.NEGATIVE_INFINITY, row * vocabSize + start, row * vocabSize + end);
    }
    return logits;
  }

  get #hiddenSize(): number {
    return this.#stepper.model.context.config.hiddenSize;
  }
}
