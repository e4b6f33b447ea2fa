// Which tokens end an answer and which mark turns, by their spelling and by what the chat template writes: files' flags are known to be wrong.
import { LlmError } from "../errors";
import type { ChatMessage, ChatTemplate } from "./chat-template";

// Models end a turn with tokens that their configuration often omits (Qwen2.5's GGUF names one of its two) or types as text.
const ENDS = [
  "</s>",
  "<eos>",
  "<|eos|>",
  "[EOS]",
  "<|endoftext|>",
  "<|end_of_text|>",
  "<｜end▁of▁sentence｜>",
  "<|im_end|>",
  "<|eot_id|>",
  "<|eom_id|>",
  "<|eot|>",
  "<|eom|>",
  "<EOT>",
  "_<EOT>",
  "[EOT]",
  "<|end|>",
  "<|return|>",
  "<|call|>",
  "<|calls|>",
  "<|flush|>",
  "<end_of_turn>",
  "<|end_of_turn|>",
  "<|endofturn|>",
  "<|END_OF_TURN_TOKEN|>",
  "<turn|>",
  "<end_of_utterance>",
];

/** What is known of a vocabulary's tokens. */
export interface TokenFacts {
  readonly has: (token: string) => boolean;
  readonly isSpecial: (token: string) => boolean;
  /** Merges make it out of text, so that it is text itself. */
  readonly isLearnt: (token: string) => boolean;
}

/** The vocabulary's tokens that end an answer in every model that has them. */
export function knownEnds(facts: TokenFacts): string[] {
  return ENDS.filter((end) => facts.has(end) && (facts.isSpecial(end) || !facts.isLearnt(end)) && !isOtherwiseUsed(end, facts));
}

/** In some vocabularies `</s>` is HTML (Gemma's), and `<|end|>` ends a part of an answer (OpenAI's harmony, which ends with `<|return|>`). */
export function isOtherwiseUsed(end: string, { has, isSpecial }: TokenFacts): boolean {
  if (end === "</s>") return !isSpecial(end) && has("</b>");
  return end === "<|end|>" && has("<|return|>");
}

/** Whether a spelling is one of those that end answers. */
export function isKnownEnd(token: string): boolean {
  return ENDS.includes(token);
}

/** `<|user|>`, `<｜User｜>`, `<start_of_turn>`: nobody writes text so. */
export function isControlSpelling(token: string): boolean {
  return /^<[|｜][^\s<>]+[|｜]>$|^<(start|end)_of_\w+>$/.test(token);
}

export interface WrittenTokens {
  /** Tokens that the template writes. */
  readonly written: ReadonlySet<string>;
  /** Tokens that it writes right after an assistant's turn. */
  readonly ends: ReadonlySet<string>;
}

const ANSWER = "CRESCENDOxANSWER"; // letters only: templates trim and split contents
const PROBES: readonly (readonly ChatMessage[])[] = [
  [
    { role: "user", content: "x" },
    { role: "assistant", content: ANSWER },
    { role: "user", content: "x" },
  ],
  [
    { role: "user", content: "x" },
    { role: "assistant", content: ANSWER },
  ],
  [
    { role: "system", content: "x" },
    { role: "user", content: "x" },
  ],
];

/** What `template` does with `tokens`, the vocabulary's added ones, found by rendering short conversations. */
export function writtenTokens(template: ChatTemplate, tokens: readonly string[]): WrittenTokens {
  const marks = tokens.filter((token) => /^[^\s\p{L}\p{N}]\S/u.test(token)).sort((a, b) => b.length - a.length);
  const texts = PROBES.flatMap((messages) => rendered(template, messages));
  const written = marks.filter((token) => template.source.includes(token) || texts.some((text) => text.includes(token)));
  const ends = texts.flatMap((text) => {
    const after = text.split(ANSWER)[1]?.trimStart() ?? "";
    return marks.find((token) => after.startsWith(token)) ?? [];
  });
  return { written: new Set(written), ends: new Set(ends) };
}

/** None where the template refuses the conversation, as some do with a system's turn. */
function rendered(template: ChatTemplate, messages: readonly ChatMessage[]): string[] {
  return [true, false].flatMap((addGenerationPrompt) => {
    try {
      return [template.render(messages, { addGenerationPrompt })];
    } catch (error) {
      if (error instanceof LlmError) return [];
      throw error;
    }
  });
}

/** Of `tokens`, those in pairs like `<think>` and `</think>`: they mark a part of an answer, for which templates look in earlier answers. */
export function pairedTags(tokens: ReadonlySet<string>): ReadonlySet<string> {
  const other = (token: string) => (/^[<[]\//.test(token) ? token[0] + token.slice(2) : `${token[0]}/${token.slice(1)}`);
  return new Set([...tokens].filter((token) => tokens.has(other(token))));
}
