// What a conversation's token ids stand for, so that the next turn only adds to them: the true ids are kept, and nothing
// that the model has read or written is tokenised again, but for the end of an answer that was cut within a token.
import { LlmError } from "../errors";
import type { TokenId } from "../steps/sequence";
import { GUARD } from "../tokens/special-token-guard";

export interface TranscriptMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

export interface TranscriptCodec {
  /** The conversation as its template has it, ready for the next answer. */
  readonly render: (messages: readonly TranscriptMessage[]) => string;
  /** Ids of a prompt that a template wrote, control tokens included. */
  readonly encode: (text: string) => TokenId[];
  /** Ids of text that goes on after other ids. */
  readonly encodeMore: (text: string) => TokenId[];
  /** The text of an answer's ids, without control tokens. */
  readonly decode: (ids: readonly TokenId[]) => string;
  /** The text of a stop token as templates write it, or null for another token. */
  readonly stopText: (id: TokenId) => string | null;
}

/** An answer that is over, and the prompt that it follows. */
export interface TranscriptTurn {
  /** The prompt as it was rendered. */
  readonly promptText: string;
  /** Prompt and answer: only tokens whose text is in the answer, and the stop token if one ended it. */
  readonly ids: readonly TokenId[];
  /** The end of the answer's text that `ids` do not hold, since the token there says more than the answer. Mostly empty. */
  readonly tail: string;
  /** The last of `ids`, if it is a stop token that ended the answer. */
  readonly stopId: TokenId | null;
}

/**
 * A turn of prompt and answer. `answer` is the text of `answerIds`, or a beginning of it: a stop string or an abort took the rest.
 */
export function endTurn(
  codec: TranscriptCodec,
  prompt: { readonly text: string; readonly ids: readonly TokenId[] },
  answerIds: readonly TokenId[],
  answer: string,
): TranscriptTurn {
  const lastId = answerIds.at(-1);
  const stopId = lastId !== undefined && codec.stopText(lastId) !== null ? lastId : null;
  const saidIds = stopId === null ? answerIds : answerIds.slice(0, -1);
  let kept = saidIds.length;
  let text = codec.decode(saidIds);
  // Half a character reads U+FFFD, which the answer does not have there: its tokens go as well.
  while (!answer.startsWith(text)) text = codec.decode(saidIds.slice(0, --kept));
  const isWhole = kept === saidIds.length;
  return {
    promptText: prompt.text,
    ids: [...prompt.ids, ...(isWhole ? answerIds : saidIds.slice(0, kept))],
    tail: answer.slice(text.length),
    stopId: isWhole ? stopId : null,
  };
}

/** Where an earlier turn ends within the latest one: all that is needed to go back to it. */
export interface TurnMark {
  /** Messages of the conversation, its answer included. */
  readonly messageCount: number;
  /** Characters of the latest turn's `promptText`. */
  readonly promptLength: number;
  readonly idCount: number;
  readonly tail: string;
  readonly stopId: TokenId | null;
}

export function markOf({ promptText, ids, tail, stopId }: TranscriptTurn, messageCount: number): TurnMark {
  return { messageCount, promptLength: promptText.length, idCount: ids.length, tail, stopId };
}

/** The turn that `mark` was made of, out of a later one that continued it. */
export function turnAt(latest: TranscriptTurn, { promptLength, idCount, tail, stopId }: TurnMark): TranscriptTurn {
  const promptText = latest.promptText.slice(0, promptLength);
  // The next prompt may have put the template's stop token in the place of the one that the model chose.
  const isStopKept = stopId === null || latest.ids[idCount - 1] === stopId;
  return isStopKept
    ? { promptText, ids: latest.ids.slice(0, idCount), tail, stopId }
    : { promptText, ids: latest.ids.slice(0, idCount - 1), tail, stopId: null };
}

/**
 * How many of `ids` stay the same whatever is asked after `messages`, none of whose answers is known by its ids. 0 where the template refuses a
 * question there.
 */
export function sharedLength(codec: TranscriptCodec, messages: readonly TranscriptMessage[], ids: readonly TokenId[]): number {
  if (ids.length === 0) return 0;
  let text: string;
  try {
    text = codec.render([...messages, { role: "user", content: QUESTION_MARK }]);
  } catch (error) {
    if (error instanceof LlmError) return 0;
    throw error;
  }
  const [before = ""] = text.split(QUESTION_MARK);
  const beginning = codec.encode(before);
  const differing = beginning.findIndex((id, at) => id !== ids[at]);
  return differing < 0 ? beginning.length : differing;
}

export interface TranscriptPrompt {
  readonly ids: readonly TokenId[];
  readonly text: string;
  /** False: the template renders earlier turns otherwise than it did, so all is encoded anew. */
  readonly isContinued: boolean;
}

// Stand for the last answer, and for the next question, while the template renders what is around them. Letters only: templates trim and split
// contents.
const ANSWER_MARK = "CRESCENDOxANSWERxMARK";
const QUESTION_MARK = "CRESCENDOxQUESTIONxMARK";

/** The prompt of the next answer: the ids that there are and those of what follows, where the template renders the conversation so. */
export function nextPrompt(
  codec: TranscriptCodec,
  messages: readonly TranscriptMessage[],
  previous: TranscriptTurn | null,
): TranscriptPrompt {
  const text = codec.render(messages);
  if (!previous) return { ids: codec.encode(text), text, isContinued: true };
  const after = textAfterAnswer(codec, messages, previous.promptText, text);
  if (after === null) return { ids: codec.encode(text), text, isContinued: false };
  const { ids, tail, stopId } = previous;
  const stop = stopId === null ? null : codec.stopText(stopId);
  if (stop === null) return { ids: [...ids, ...codec.encodeMore(tail + after)], text, isContinued: true };
  // The stop token that ended the answer is the one that the template writes after it, or has no place there.
  return after.startsWith(stop)
    ? { ids: [...ids, ...codec.encodeMore(after.slice(stop.length))], text, isContinued: true }
    : { ids: [...ids.slice(0, -1), ...codec.encodeMore(after)], text, isContinued: true };
}

/** What `text` has after the last answer; null unless the prompt before stands in front of it and the answer as it is between. */
function textAfterAnswer(
  { render }: TranscriptCodec,
  messages: readonly TranscriptMessage[],
  promptText: string,
  text: string,
): string | null {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  const answer = messages[last];
  if (!answer) return null;
  const marked = render(messages.with(last, { ...answer, content: ANSWER_MARK }));
  const [before, after] = marked.split(ANSWER_MARK);
  if (before !== promptText || after === undefined) return null;
  if (text.length < before.length + after.length || !text.startsWith(before) || !text.endsWith(after)) return null;
  const rendered = text.slice(before.length, text.length - after.length);
  // Templates trim answers. Those that take more away, such as earlier reasoning, want the model not to see it.
  return rendered.replaceAll(GUARD, "").trim() === answer.content.trim() ? after : null;
}
