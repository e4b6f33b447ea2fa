// An engine without a GPU for tests of chats: it says what the test wants, when the test wants it.
import { present } from "../../src/assert";
import type { ChatCore } from "../../src/chat/chat-core";
import { LlmError } from "../../src/errors";
import type { KvSnapshot } from "../../src/kv/kv-snapshot";
import type { ModelIdentity } from "../../src/repository/identity";
import { describeModel } from "../../src/repository/model-description";
import type { GenerationResult } from "../../src/steps/generation-progress";
import { Sequence } from "../../src/steps/sequence";
import type { Tokenizer } from "../../src/tokens/tokenizer";
import { tinyChatFiles } from "./tiny-chat-model";

type Request = Parameters<ChatCore["generate"]>[0];

/** A request under way. */
export interface FakeRun {
  readonly request: Request;
  /** The sequence's tokens when it was asked for. */
  readonly prompt: readonly number[];
  readonly isOver: boolean;
  say(...ids: number[]): void;
  /** Ends it well. */
  end(finishReason?: GenerationResult["finishReason"]): void;
  fail(error: unknown): void;
}

const TIMINGS = { cachedTokens: 0, prefillTokens: 0, generatedTokens: 0, timeToFirstTokenMs: 0, prefillTokensPerSecond: 0 };

export class FakeChatCore implements ChatCore {
  readonly config: ChatCore["config"];
  readonly contextLength = 256;
  readonly stage = 0;
  readonly identity: ModelIdentity;
  /** In the order that they were asked for. */
  readonly runs: FakeRun[] = [];
  readonly released: Sequence[] = [];
  readonly restored: KvSnapshot[] = [];
  readonly #waiting: (() => void)[] = [];
  #end: LlmError | null = null;

  constructor(config: ChatCore["config"], identity: Partial<ModelIdentity> = {}) {
    this.config = config;
    this.identity = { weights: "weights", tokenizer: "tokenizer", isStable: true, ...identity };
  }

  createSequence(): Sequence {
    return new Sequence([]);
  }

  async releaseSequence(sequence: Sequence): Promise<void> {
    this.released.push(sequence);
  }

  generate(request: Request): Promise<GenerationResult> {
    const { sequence, signal } = request;
    const done = new Promise<GenerationResult>((resolve, reject) => {
      if (this.#end) reject(this.#end);
      if (this.runs.some((run) => run.request.sequence === sequence && !run.isOver)) reject(new Error("two requests for a sequence"));
      let isOver = false;
      const run: FakeRun = {
        request,
        prompt: [...sequence.tokens],
        get isOver() {
          return isOver;
        },
        say: (...ids) => {
          for (const id of ids) {
            if (isOver) return;
            sequence.append([id]);
            if (!request.onToken(id, 0)) run.end("stop");
          }
        },
        end: (finishReason = "length") => {
          isOver = true;
          resolve({ ...TIMINGS, decodeTokensPerSecond: 0, finishReason });
        },
        fail: (error) => {
          isOver = true;
          reject(error);
        },
      };
      signal?.addEventListener("abort", () => run.fail(signal.reason));
      this.runs.push(run);
      for (const wake of this.#waiting.splice(0)) wake();
    });
    return done;
  }

  async snapshot(sequence: Sequence): Promise<KvSnapshot> {
    const ids = [...sequence.tokens];
    await Promise.resolve();
    return { ids, pageSize: 16, groups: [] };
  }

  async restore(_: Sequence, snapshot: KvSnapshot) {
    this.restored.push(snapshot);
    return { layers: [{ layer: 0, carry: "restore" as const, positions: snapshot.ids.length }], restoredBytes: 10 };
  }

  /** As an engine that is disposed of. */
  dispose(): void {
    this.#end = new LlmError("disposed", "This engine was disposed.");
    for (const run of this.runs) run.fail(this.#end);
  }

  /** The run with this index, once it was asked for. */
  async run(index: number): Promise<FakeRun> {
    while (this.runs.length <= index) {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    return present(this.runs[index], `run ${index}`);
  }
}

export interface FakeModel {
  readonly tokenizer: Tokenizer;
  core(identity?: Partial<ModelIdentity>): FakeChatCore;
}

/** The tiny chat model's tokenizer, with a template of the test's own. */
export async function fakeModel(template?: string): Promise<FakeModel> {
  const { config, tokenizer } = await describeModel(await tinyChatFiles(template));
  return { tokenizer: present(tokenizer, "tokenizer"), core: (identity) => new FakeChatCore(config, identity) };
}

/** Long enough for everything that waits for nothing. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
