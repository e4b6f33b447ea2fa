// crescendo run: one answer, streamed to the terminal.
import { text as readAll } from "node:stream/consumers";
import { parseArgs } from "node:util";
import type { Answer, AnswerOptions, EngineEvent } from "../index";
import { parseCount, parseNumber } from "./flag-values";
import { loadLocalEngine, MODEL_OPTIONS } from "./local-model";
import { printLine } from "./progress-bar";
import { stageLine } from "./stage-lines";
import { UsageError } from "./usage";

const SAMPLING = { temperature: "temperature", "top-p": "topP", "min-p": "minP" } as const;
const COUNTS = { "max-tokens": "maxTokens", "top-k": "topK", seed: "seed" } as const;

export async function runCommand(args: string[]): Promise<void> {
  const { values } = parseRunArgs(args);
  if (values.prompt === undefined) throw new UsageError("--prompt is missing");
  const prompt = values.prompt === "-" ? await readAll(process.stdin) : values.prompt;
  const options: Record<string, unknown> = { maxTokens: 256 };
  for (const [flag, name] of Object.entries(SAMPLING)) {
    const value = values[flag as keyof typeof SAMPLING];
    if (value !== undefined) options[name] = parseNumber(`--${flag}`, value);
  }
  for (const [flag, name] of Object.entries(COUNTS)) {
    const value = values[flag as keyof typeof COUNTS];
    if (value !== undefined) options[name] = parseCount(`--${flag}`, value);
  }
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  using engine = await loadLocalEngine(values, { signal: abort.signal, onEvent: printStage });
  const answerOptions: AnswerOptions = { ...options, signal: abort.signal };
  const answer = values.raw
    ? engine.completeText(prompt, answerOptions)
    : engine.createChat(values.system === undefined ? {} : { system: values.system }).send(prompt, answerOptions);
  await printAnswer(answer);
}

/** Reports when a stage takes over or fails, on its own line, even in the middle of an answer on the same terminal. */
function printStage(event: EngineEvent): void {
  if (event.type !== "stage-ready" && event.type !== "upgrade-failed") return;
  const isAmidAnswer = event.stage.index > 0 && process.stdout.isTTY && process.stderr.isTTY;
  const line = stageLine(event);
  if (line !== null) printLine(`${isAmidAnswer ? "\n" : ""}${line}`);
}

async function printAnswer(answer: Answer): Promise<void> {
  for await (const { text } of answer) process.stdout.write(text);
  const { finishReason, prefillTokens, generatedTokens, timeToFirstTokenMs, prefillTokensPerSecond, decodeTokensPerSecond } =
    await answer.finished;
  process.stdout.write("\n");
  console.error(
    `[${finishReason}] ${prefillTokens} tokens read at ${prefillTokensPerSecond.toFixed(0)}/s, first word after ${timeToFirstTokenMs.toFixed(0)} ms, ` +
      `${generatedTokens} written at ${decodeTokensPerSecond.toFixed(1)}/s`,
  );
}

function parseRunArgs(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        ...MODEL_OPTIONS,
        prompt: { type: "string" },
        system: { type: "string" },
        raw: { type: "boolean" },
        temperature: { type: "string" },
        "top-p": { type: "string" },
        "min-p": { type: "string" },
        "max-tokens": { type: "string" },
        "top-k": { type: "string" },
        seed: { type: "string" },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
