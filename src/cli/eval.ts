// crescendo eval: the logits of a list of ids, or the perplexity of a text.
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { type WritableTensor, writeSafetensors } from "../formats/safetensors-writer";
import type { Engine } from "../index";
import { loadLocalEngine, MODEL_OPTIONS, type ModelFlags, parseCount } from "./local-model";
import { NegativeLogLikelihood } from "./negative-log-likelihood";
import { ProgressBar } from "./progress-bar";
import { UsageError } from "./usage";

const DEFAULT_CHUNK = 256;

export async function evalCommand(args: string[]): Promise<void> {
  const { values } = parseEvalArgs(args);
  const chunk = values.chunk === undefined ? DEFAULT_CHUNK : parseCount("--chunk", values.chunk);
  if (chunk < 1) throw new UsageError("--chunk is 0");
  if (values.text !== undefined) return evaluateText(values, values.text, chunk);
  if (values.ids === undefined || values.out === undefined) throw new UsageError("eval takes --ids with --out, or --text");
  return evaluateIds(values, { idsPath: values.ids, outPath: values.out, chunk, hidden: values.hidden ?? false });
}

interface IdsRequest {
  readonly idsPath: string;
  readonly outPath: string;
  readonly chunk: number;
  readonly hidden: boolean;
}

async function evaluateIds(flags: ModelFlags, { idsPath, outPath, chunk, hidden }: IdsRequest): Promise<void> {
  const ids: unknown = JSON.parse(readFileSync(idsPath, "utf8"));
  if (!isIdList(ids)) throw new UsageError(`${idsPath} is not a JSON list of token ids`);
  using engine = await loadLocalEngine(flags, { needsTokenizer: false, chunkRows: chunk, contextLength: ids.length });
  const { vocabSize, hiddenSize } = engine.config;
  checkIds(engine, ids, idsPath);
  const logits = new Float32Array(ids.length * vocabSize);
  const bar = new ProgressBar("evaluating", "tokens");
  const evaluation = await engine.evaluate({
    ids,
    chunk,
    hidden,
    onLogits: (firstRow, rows) => {
      logits.set(rows, firstRow * vocabSize);
      bar.update(firstRow + rows.length / vocabSize, ids.length);
    },
  });
  bar.end();
  const tensors: WritableTensor[] = [{ name: "logits", type: "F32", shape: [ids.length, vocabSize], values: logits }];
  evaluation.hidden.forEach((values, layer) => {
    tensors.push({ name: `hidden.${layer}`, type: "F32", shape: [ids.length, hiddenSize], values });
  });
  writeFileSync(outPath, writeSafetensors(tensors));
  console.log(`${outPath}: logits [${ids.length}, ${vocabSize}]${hidden ? `, hidden.0 to hidden.${evaluation.hidden.length - 1}` : ""}`);
}

async function evaluateText(flags: ModelFlags, path: string, chunk: number): Promise<void> {
  const text = readFileSync(path, "utf8");
  using engine = await loadLocalEngine(flags, { chunkRows: chunk });
  const ids = engine.tokenizer.encode(text, { addSpecialTokens: false });
  if (ids.length < 2) throw new UsageError(`${path} has ${ids.length} tokens; a likelihood needs two`);
  const nll = new NegativeLogLikelihood(ids, engine.config.vocabSize);
  const bar = new ProgressBar("evaluating", "tokens");
  await engine.evaluate({
    ids,
    chunk,
    onLogits: (firstRow, rows) => {
      nll.add(firstRow, rows);
      bar.update(firstRow + rows.length / engine.config.vocabSize, ids.length);
    },
  });
  bar.end();
  console.log(`tokens ${ids.length}, mean NLL ${nll.mean.toFixed(5)}, perplexity ${Math.exp(nll.mean).toFixed(4)}`);
}

function isIdList(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0);
}

function checkIds(engine: Engine, ids: readonly number[], path: string): void {
  const wrong = ids.find((id) => id >= engine.config.vocabSize);
  if (wrong !== undefined) throw new UsageError(`${path}: id ${wrong} is outside the model's vocabulary of ${engine.config.vocabSize}`);
}

function parseEvalArgs(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        ...MODEL_OPTIONS,
        ids: { type: "string" },
        out: { type: "string" },
        hidden: { type: "boolean" },
        text: { type: "string" },
        chunk: { type: "string" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
