// What holds of an engine whatever is done to it. Pure functions: each says what is wrong, in no or some sentences.
import { type ChatMessage, type EngineMemory, LlmError } from "../../src/index";
import { SPECIAL_IDS } from "../support/tiny-chat-model";

const [, BEGIN_ID = 1, END_ID = 2] = SPECIAL_IDS;

/** A message's own ids in a conversation's. */
export interface MessageSpan {
  readonly role: string;
  /** From the first id of its content to the one after the last. */
  readonly start: number;
  readonly end: number;
}

export type Decode = (ids: readonly number[]) => string;

/** The messages that ids hold, as the tiny model's template writes them: `<begin>role\ncontent<end>\n`. */
export function messageSpans(ids: readonly number[], decode: Decode): readonly MessageSpan[] {
  const spans: MessageSpan[] = [];
  for (let at = 0; at < ids.length; at++) {
    if (ids[at] !== BEGIN_ID) continue;
    const header = ids.findIndex((id, index) => index > at && decode([id]).includes("\n"));
    if (header < 0) return spans;
    const after = ids.findIndex((id, index) => index > header && id === END_ID);
    spans.push({ role: decode(ids.slice(at + 1, header)), start: header + 1, end: after < 0 ? ids.length : after });
  }
  return spans;
}

/** The ids say what the messages say. The last answer's text may go on behind its ids: a stop string cut it within a token. */
export function transcriptFaults(ids: readonly number[], messages: readonly ChatMessage[], decode: Decode): string[] {
  const spans = messageSpans(ids, decode);
  // What was said before the first token of an answer may be there without ids: the next prompt encodes it.
  if (ids.length === 0) return [];
  const said = spans.map(({ role, start, end }) => ({ role, content: decode(ids.slice(start, end)) }));
  const last = messages.length - 1;
  const isSame = messages.every(({ role, content }, index) => {
    const there = said[index];
    if (!there) return index === last && role === "assistant" && content === "";
    return there.role === role && (index === last ? content.startsWith(there.content) : content === there.content);
  });
  const more = said.slice(messages.length).some(({ content }) => content !== "");
  return isSame && !more ? [] : [`the ids read ${JSON.stringify(said)}, the messages are ${JSON.stringify(messages)}`];
}

export function alternationFaults(messages: readonly ChatMessage[]): string[] {
  const turns = messages.filter(({ role }) => role !== "system").map(({ role }) => role);
  const odd = turns.findIndex((role, index) => role !== (index % 2 === 0 ? "user" : "assistant"));
  return odd < 0 ? [] : [`message ${odd} is the ${turns[odd]}'s: ${turns.join(", ")}`];
}

/** `now` goes on from `before`, up to the end of an answer that a stop cut within a token. */
export function growthFaults(before: readonly number[], now: readonly number[]): string[] {
  const kept = before.findIndex((id, index) => now[index] !== id);
  return kept < 0 ? [] : [`of ${before.length} ids of the conversation ${kept} are left as they were, of now ${now.length}`];
}

export function deltaFaults(deltas: readonly string[], text: string): string[] {
  const joined = deltas.join("");
  return joined === text ? [] : [`the deltas read ${JSON.stringify(joined)}, the answer's text is ${JSON.stringify(text)}`];
}

/** What an engine may hold more or less than without chats. */
export interface MemoryAllowance {
  /** Residuals that idle chats have to catch up from. */
  readonly kvBytes: number;
  /** Kernels bound for other numbers of rows. */
  readonly scratchBytes: number;
  /** Rows of the embedding that prompts had read. */
  readonly weightBytes: number;
}

/** `bare` is what an engine without chats holds at this stage. */
export function memoryFaults(now: EngineMemory, bare: EngineMemory, allowance: MemoryAllowance): string[] {
  const isWithin = (key: "weights" | "kv" | "scratch", more: number) => now[key] >= bare[key] - more && now[key] <= bare[key] + more;
  const isSame =
    isWithin("kv", allowance.kvBytes) && isWithin("weights", allowance.weightBytes) && isWithin("scratch", allowance.scratchBytes);
  return isSame ? [] : [`the engine holds ${JSON.stringify(now)}, without chats it held ${JSON.stringify(bare)}`];
}

/** What happened while a promise was under way. */
export interface Circumstances {
  /** The caller's own signal, or null. */
  readonly signal: AbortSignal | null;
  /** The soak disposed of the chat or the engine. */
  readonly isGone: boolean;
  readonly deviceLost: boolean;
  readonly linkCut: boolean;
  /** The reader left the answer. */
  readonly hasLeft: boolean;
  /** Codes that the operation itself provokes. */
  readonly provoked: readonly string[];
}

const OF_A_LINK = ["fetch-failed", "bytes-truncated"];

/** An error must be the signal's reason or an LlmError that what happened explains. */
export function errorFaults(error: unknown, { signal, isGone, deviceLost, linkCut, hasLeft, provoked }: Circumstances): string[] {
  if (signal?.aborted && error === signal.reason) return [];
  if (hasLeft && error instanceof DOMException && error.name === "AbortError") return [];
  if (!(error instanceof LlmError)) return [`it failed with ${describeError(error)}`];
  const isExplained =
    provoked.includes(error.code) ||
    (error.code === "disposed" && isGone) ||
    (error.code === "device-lost" && deviceLost) ||
    (OF_A_LINK.includes(error.code) && linkCut);
  return isExplained ? [] : [`nothing explains its failure: ${error.code}, ${error.message}`];
}

export function describeError(error: unknown): string {
  return error instanceof Error
    ? `${error.name}: ${error.message} ${(error.stack ?? "").split("\n").slice(1, 4).join(" ")}`
    : String(error);
}

/** A token that a greedy answer holds is the likeliest there, or as likely but for rounding. `logits` is the row before it. */
export function greedyFaults(logits: Float32Array, token: number, forbidden: ReadonlySet<number>, margin: number): string[] {
  let best = -1;
  for (let id = 0; id < logits.length; id++) {
    if (!forbidden.has(id) && (best < 0 || (logits[id] ?? 0) > (logits[best] ?? 0))) best = id;
  }
  const short = (logits[best] ?? Number.NaN) - (logits[token] ?? Number.NaN);
  return short <= margin ? [] : [`token ${token} is ${short.toFixed(4)} behind ${best}, the likeliest`];
}
