// crescendo eval: logits, perplexity and distance from other logits, for ids or a text, at any stage of a plan and across upgrades.
import { readFileSync } from "node:fs";
import { openFile } from "../bytes/file-source";
import { LlmError } from "../errors";
import { readSafetensors } from "../formats/safetensors";
import type { Engine, Evaluation, EvaluationUpgrade, LoadOptions } from "../index";
import { EvalFigures } from "./eval-figures";
import { type EvalRequest, parseEvalFlags } from "./eval-flags";
import { loadLocalEngine } from "./local-model";
import { readLogits, writeLogitsFile } from "./logits-file";
import { ProgressBar, printLine } from "./progress-bar";
import { stageLine } from "./stage-lines";
import { indexUpgrades, stageIndex } from "./upgrade-list";
import { UsageError } from "./usage";

export async function evalCommand(args: string[]): Promise<void> {
  const request = parseEvalFlags(args);
  const { input, out, against } = request;
  const written = readText(input.path);
  const listed = input.type === "ids" ? readIds(written, input.path) : null;
  const referenceFile = against === null ? null : await readSafetensors(await openFile(against));
  using engine = await loadEvaluated(request, listed);
  const ids = listed ?? encode(engine, written, input.path);
  checkIds(engine, ids, input.path);
  const { vocabSize } = engine.config;
  const reference = referenceFile && (await readLogits(referenceFile, ids, vocabSize));
  const upgrades = await reachStage(engine, request, ids.length);

  const figures = new EvalFigures({ ids, vocabSize, reference, isText: input.type === "text" });
  const logits = out === null ? null : new Float32Array(ids.length * vocabSize);
  const onLogits = (firstRow: number, rows: Float32Array) => {
    figures.add(engine.stage.name, firstRow, rows);
    logits?.set(rows, firstRow * vocabSize);
  };
  const { hidden } = await evaluate(engine, request, { ids, onLogits, upgrades });

  for (const line of figures.nllLines()) console.log(line);
  if (out !== null && logits) {
    writeLogitsFile(out, { ids, logits, hidden });
    const residuals = hidden.length > 0 ? `, hidden.0 to hidden.${hidden.length - 1}` : "";
    console.log(`${out}: logits [${ids.length}, ${vocabSize}]${residuals}`);
  }
  if (against !== null) for (const line of figures.comparisonLines(against)) console.log(line);
}

/** `listed`: the ids, if they are known before there is a tokenizer. */
function loadEvaluated({ model, chunk }: EvalRequest, listed: readonly number[] | null): Promise<Engine> {
  const options: LoadOptions = {
    chunkRows: chunk,
    delivery: "manual",
    ...(listed && { contextLength: listed.length }),
    onEvent: (event) => {
      const line = stageLine(event);
      if (line !== null) printLine(line);
    },
  };
  // Each stage holds the rows of special tokens, and only the tokenizer knows them. So ids need a tokenizer too if there are stages.
  return loadLocalEngine(model, options, listed === null ? "required" : model.plan === "whole" ? "none" : "optional");
}

/** Moves to the requested stage (with nothing cached this equals loading it directly), or returns the upgrades to do on the way. */
async function reachStage(engine: Engine, { stage, upgrades, policy, carry }: EvalRequest, idCount: number): Promise<EvaluationUpgrade[]> {
  const names = engine.stages.map(({ name }) => name);
  if (upgrades.length > 0) return indexUpgrades(upgrades, { names, idCount }).map((upgrade) => ({ ...upgrade, policy, carry }));
  await engine.upgrade({ stage: stage === null ? names.length - 1 : stageIndex("--stage", stage, names), policy: "blocking" });
  return [];
}

interface EvaluationParts {
  readonly ids: readonly number[];
  readonly onLogits: (firstRow: number, rows: Float32Array) => void;
  readonly upgrades: readonly EvaluationUpgrade[];
}

async function evaluate(engine: Engine, { chunk, hidden }: EvalRequest, { ids, onLogits, upgrades }: EvaluationParts): Promise<Evaluation> {
  const bar = new ProgressBar("evaluating", "tokens");
  const request = {
    ids,
    chunk,
    hidden,
    onLogits: (firstRow: number, rows: Float32Array) => {
      onLogits(firstRow, rows);
      bar.update(firstRow + rows.length / engine.config.vocabSize, ids.length);
    },
  };
  const evaluation = await engine.evaluate(request, upgrades);
  await engine.complete; // of an upgrade that takes over behind the last id there is still news to come
  bar.end();
  return evaluation;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    throw new LlmError("not-found", `${path} cannot be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

function readIds(text: string, path: string): number[] {
  try {
    const ids: unknown = JSON.parse(text);
    if (isIdList(ids)) return ids;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new UsageError(`${path} is not a JSON list of token ids`);
}

function isIdList(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0);
}

function encode(engine: Engine, text: string, path: string): readonly number[] {
  const ids = engine.tokenizer.encode(text, { addSpecialTokens: false });
  if (ids.length < 2) throw new UsageError(`${path} has ${ids.length} tokens; a likelihood needs two`);
  return ids;
}

function checkIds(engine: Engine, ids: readonly number[], path: string): void {
  const wrong = ids.find((id) => id >= engine.config.vocabSize);
  if (wrong !== undefined) throw new UsageError(`${path}: id ${wrong} is outside the model's vocabulary of ${engine.config.vocabSize}`);
}
