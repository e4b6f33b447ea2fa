// From text to ids: added tokens are found first, then the library normalizes what is left and splits it into words, and our own model merges those.
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { LlmError } from "../errors";
import { shortened } from "../quoted";
import { AddedTokenSplitter } from "./added-token-splitter";
import { BytePairModel } from "./byte-pair-model";
import type { TokenizerJson } from "./tokenizer-json";

// An expression that is too large for the engine fails when it first runs, on text of one byte a character and of two by itself.
const TRIALS = ["Trial 1, 'twas.\n", "Trial 日本 🙂 ½"];

export class TokenEncoder {
  readonly #library: HubTokenizer;
  readonly #model: BytePairModel;
  readonly #splitter: AddedTokenSplitter;

  /** @throws LlmError "bad-tokenizer" for what the library or the regular expressions' engine refuses. */
  constructor({ library, vocabulary, modelOptions, addedTokens }: TokenizerJson) {
    try {
      this.#library = new HubTokenizer(library, {});
      this.#model = new BytePairModel(vocabulary, modelOptions);
      const { normalizer } = this.#library;
      this.#splitter = new AddedTokenSplitter(addedTokens, normalizer === null ? (text) => text : (text) => asFunction(normalizer)(text));
      for (const text of TRIALS) this.#idsOf(text);
    } catch (cause) {
      throw refusal(cause);
    }
  }

  /** The ids of `text`, without any around it. */
  encode(text: string): number[] {
    try {
      return this.#idsOf(text);
    } catch (cause) {
      if (cause instanceof SyntaxError || cause instanceof RangeError) throw refusal(cause);
      throw cause;
    }
  }

  #idsOf(text: string): number[] {
    const { pre_tokenizer: preTokenizer } = this.#library;
    const { tokens_to_ids: ids, unk_token_id: unknown } = this.#model;
    const found: number[] = [];
    for (const [index, part] of this.#splitter.split(text).entries()) {
      if (part.text === undefined) {
        found.push(part.id);
        continue;
      }
      const words = preTokenizer === null ? [part.text] : asFunction<string[]>(preTokenizer)(part.text, { section_index: index });
      for (const token of asFunction<string[]>(this.#model)(words)) {
        const id = ids.get(token) ?? unknown;
        if (id !== undefined) found.push(id);
      }
    }
    return found;
  }
}

/** The library's stages are functions, which its types do not say. */
function asFunction<Result = string>(stage: object): (input: string | readonly string[], options?: object) => Result {
  return stage as unknown as (input: string | readonly string[], options?: object) => Result;
}

function refusal(cause: unknown): LlmError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new LlmError("bad-tokenizer", `tokenizer.json: ${shortened(reason)}.`, { cause });
}
