// What a conversation's token ids stand for, so that the next turn only adds to them: the true ids are kept, and nothing
// that the model has read or written is tokenised again.
import type { TokenId } from "../engine/sequence";

/** Renders a conversation as its template has it, ready for the next answer. */
export type RenderChat = (messages: readonly TranscriptMessage[]) => string;

export interface TranscriptMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

export interface TranscriptCodec {
  readonly render: RenderChat;
  /** Ids of text that a template wrote, control tokens included. */
  readonly encode: (text: string) => TokenId[];
  /** The text of a stop token as templates write it, or null for another token. */
  readonly stopText: (id: TokenId) => string | null;
}

/** The prompt of an answer and the ids that then came of it. */
export interface TranscriptTurn {
  /** The rendered text that the answer follows. */
  readonly promptText: string;
  /** All ids up to the answer's end. */
  readonly ids: readonly TokenId[];
}

// Stands for the last answer while the template renders what follows it. Letters only: templates trim and split contents.
const ANSWER_MARK = "CRESCENDOxANSWERxMARK";

/**
 * The ids of the next prompt. Where the template renders the conversation so far as it did before, they are the ids there
 * are and those of what follows; otherwise (`isContinued` false: a template that rewrites earlier turns) all is encoded anew.
 */
export function nextPrompt(
  codec: TranscriptCodec,
  messages: readonly TranscriptMessage[],
  previous: TranscriptTurn | null,
): { readonly ids: readonly TokenId[]; readonly text: string; readonly isContinued: boolean } {
  const text = codec.render(messages);
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  if (!previous || last < 0) return { ids: codec.encode(text), text, isContinued: previous === null };
  const marked = codec.render(messages.with(last, { role: "assistant", content: ANSWER_MARK }));
  const [before, after, ...more] = marked.split(ANSWER_MARK);
  if (before !== previous.promptText || after === undefined || more.length > 0)
    return { ids: codec.encode(text), text, isContinued: false };
  const stop = codec.stopText(previous.ids.at(-1) ?? -1);
  if (stop === null) return { ids: [...previous.ids, ...codec.encode(after)], text, isContinued: true };
  // The stop token that ended the answer is the one that the template writes after it, or has no place there.
  return after.startsWith(stop)
    ? { ids: [...previous.ids, ...codec.encode(after.slice(stop.length))], text, isContinued: true }
    : { ids: [...previous.ids.slice(0, -1), ...codec.encode(after)], text, isContinued: true };
}
