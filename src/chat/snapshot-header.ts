// The JSON in a stored snapshot, checked field by field: it comes from outside, and may be damaged or made up.
import { LlmError } from "../errors";
import { RESIDUALS } from "../kv/kv-cache";
import type { GroupSnapshot, KvSnapshot } from "../kv/kv-snapshot";
import type { ModelIdentity } from "../repository/identity";
import { clip, quote } from "./quote";
import { messageFault } from "./request-checks";
import type { TranscriptMessage, TranscriptTurn } from "./transcript";

export const SNAPSHOT_FORMAT = "crescendo-chat";
export const SNAPSHOT_VERSION = 2;
/** It named no model, so that its tokens and K/V may be another model's. */
const NAMELESS_VERSION = 1;

/** What a header says of a group; `contents` are the names of its tensors. */
export interface GroupHeader extends Omit<GroupSnapshot, "contents"> {
  readonly contents: readonly string[];
}

/** Of the model that a snapshot was taken of. Null stands for a tokenizer that is not known. */
export type SnapshotIdentity = Pick<ModelIdentity, "weights" | "tokenizer">;

export interface SnapshotContent {
  readonly identity: SnapshotIdentity;
  readonly messages: readonly TranscriptMessage[];
  readonly turn: TranscriptTurn | null;
  readonly kv: KvSnapshot;
}

export interface SnapshotHeader extends Omit<SnapshotContent, "kv"> {
  readonly ids: readonly number[];
  readonly pageSize: number;
  readonly groups: readonly GroupHeader[];
}

type Fields = Readonly<Record<string, unknown>>;

/** @throws LlmError "bad-file" naming the first field that is wrong. */
export function parseSnapshotHeader(text: unknown): SnapshotHeader {
  const header = fields(parseJson(text), "The header");
  const { format, version, identity, turn } = header;
  if (format !== SNAPSHOT_FORMAT) throw fault("format", format, `"${SNAPSHOT_FORMAT}"`);
  if (version !== SNAPSHOT_VERSION && version !== NAMELESS_VERSION) {
    throw fault("version", version, `${NAMELESS_VERSION} or ${SNAPSHOT_VERSION}; read it with the version of Crescendo that wrote it`);
  }
  const messages = list(header.messages, "messages").map(parseMessage);
  const ids = parseIds(header.ids, "ids");
  const pageSize = whole(header.pageSize, "pageSize", MAX_PAGE_SIZE);
  if (pageSize === 0) throw fault("pageSize", pageSize, "1 or more");
  const groups = list(header.groups, "groups").map((group, index) =>
    parseGroup(group, `groups[${index}]`, { idCount: ids.length, pageSize }),
  );
  if (version === NAMELESS_VERSION) {
    if (turn !== null) parseTurn(turn, parseIds(fields(turn, "turn").ids, "turn.ids"));
    return { identity: { weights: "", tokenizer: null }, messages, turn: null, ids: [], pageSize, groups: [] };
  }
  if (turn !== null && !messages.some(({ role }) => role === "assistant")) throw fault("turn", turn, "null where no message is an answer");
  return { identity: parseIdentity(identity), messages, turn: turn === null ? null : parseTurn(turn, ids), ids, pageSize, groups };
}

/** @throws LlmError "bad-file" unless each of a group's tensors holds the same number of bytes for each page as its kind does. */
export function checkContentSizes(
  contents: ReadonlyMap<string, Uint8Array>,
  pageCount: number,
  { index, pageSize }: { readonly index: number; readonly pageSize: number },
): void {
  const layerBytes = [...contents].find(([name]) => name !== RESIDUALS)?.[1].byteLength;
  for (const [name, { byteLength }] of contents) {
    const unit = pageCount * pageSize * (name === RESIDUALS ? FLOAT_BYTES : HALF_BYTES);
    const isWhole = pageCount === 0 ? byteLength === 0 : byteLength > 0 && byteLength % unit === 0;
    const isAsOthers = name === RESIDUALS || byteLength === layerBytes;
    if (!isWhole || !isAsOthers) {
      throw fault(`groups[${index}].${name}`, byteLength, `the bytes of ${pageCount} pages of ${pageSize} positions, as many as its like`);
    }
  }
}

const HALF_BYTES = 2;
const FLOAT_BYTES = 4;
const MAX_PAGE_SIZE = 2 ** 16;
const MAX_ID = 2 ** 32 - 1; // pages are named by their ids as 32-bit words
const PAGE_NAME = /^[0-9a-f]{16}$/;
const LAYER_BUFFER = /^(keys|values)\.(0|[1-9]\d{0,4})$/;

function parseJson(text: unknown): unknown {
  if (typeof text !== "string")
    throw new LlmError("bad-file", "The bytes are no snapshot of a chat. Start the chat anew from its messages.");
  try {
    return JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LlmError("bad-file", `The chat's snapshot: its header is not JSON: ${clip(reason)}`, { cause });
  }
}

function parseIdentity(value: unknown): SnapshotContent["identity"] {
  const { weights, tokenizer } = fields(value, "identity");
  return {
    weights: text(weights, "identity.weights"),
    tokenizer: tokenizer === null ? null : text(tokenizer, "identity.tokenizer"),
  };
}

function parseMessage(value: unknown, index: number): TranscriptMessage {
  const wrong = messageFault(value);
  if (wrong !== null) throw new LlmError("bad-file", `The chat's snapshot: messages[${index}]: ${wrong}.`);
  const { role, content } = value as TranscriptMessage;
  return { role, content };
}

function parseTurn(value: unknown, ids: readonly number[]): TranscriptTurn {
  const { promptText, tail, stopId } = fields(value, "turn");
  if (stopId !== null && stopId !== ids.at(-1)) throw fault("turn.stopId", stopId, "null or the last of the ids");
  return {
    promptText: text(promptText, "turn.promptText"),
    ids,
    tail: text(tail, "turn.tail"),
    stopId: stopId === null ? null : Number(stopId),
  };
}

function parseGroup(value: unknown, where: string, { idCount, pageSize }: { idCount: number; pageSize: number }): GroupHeader {
  const group = fields(value, where);
  const length = whole(group.length, `${where}.length`, idCount);
  const recordedLength = whole(group.recordedLength, `${where}.recordedLength`, length);
  const pages = list(group.pages, `${where}.pages`).map((name, index) => {
    if (typeof name === "string" && PAGE_NAME.test(name)) return name;
    throw fault(`${where}.pages[${index}]`, name, "16 hexadecimal digits");
  });
  const pageCount = Math.ceil(length / pageSize);
  if (pages.length !== pageCount) throw fault(`${where}.pages`, pages, `${pageCount} names, for ${length} positions`);
  const contents = list(group.contents, `${where}.contents`).map((name, index) => bufferName(name, `${where}.contents[${index}]`));
  const names = new Set(contents);
  if (names.size !== contents.length) throw fault(`${where}.contents`, contents, "each name once");
  for (const name of contents) {
    const [kind, layer] = name.split(".");
    const other = `${kind === "keys" ? "values" : "keys"}.${layer}`;
    if (name !== RESIDUALS && !names.has(other)) throw fault(`${where}.contents`, contents, `"${other}" beside "${name}"`);
  }
  if (recordedLength > 0 && !names.has(RESIDUALS)) throw fault(`${where}.recordedLength`, recordedLength, "0 without residuals");
  return { signature: text(group.signature, `${where}.signature`), pages, length, recordedLength, contents };
}

function bufferName(name: unknown, where: string): string {
  if (typeof name === "string" && (name === RESIDUALS || LAYER_BUFFER.test(name))) return name;
  throw fault(where, name, `"keys.0", "values.0" … or "${RESIDUALS}"`);
}

function parseIds(value: unknown, where: string): readonly number[] {
  return list(value, where).map((id, index) => whole(id, `${where}[${index}]`, MAX_ID));
}

function whole(value: unknown, where: string, highest: number): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= highest) return value;
  throw fault(where, value, `a whole number from 0 to ${highest}`);
}

function text(value: unknown, where: string): string {
  if (typeof value === "string") return value;
  throw fault(where, value, "a text");
}

function list(value: unknown, where: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw fault(where, value, "a list");
}

function fields(value: unknown, where: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw fault(where, value, "an object");
}

function fault(where: string, value: unknown, expected: string): LlmError {
  return new LlmError("bad-file", `The chat's snapshot: ${where} is ${quote(value)}, expected ${expected}.`);
}
