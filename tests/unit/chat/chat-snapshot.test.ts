// A stored snapshot comes from outside: it is read as it was written, or refused with an error that says what is wrong with it.
import { describe, expect, test } from "vitest";
import { usablePart } from "../../../src/chat/chat-restore";
import { ChatSnapshot } from "../../../src/chat/chat-snapshot";
import { LlmError } from "../../../src/errors";
import { writeSafetensors } from "../../../src/formats/safetensors-writer";
import { pageHashes } from "../../../src/kv/page-hash";
import { expectLlmError } from "../../support/expect-llm-error";
import { type Random, seededRandom } from "../../support/random";

const PAGE_SIZE = 16;
const IDS = Array.from({ length: 20 }, (_, index) => index + 1);
const KEYS_PAGE = PAGE_SIZE * 4;
const RESIDUALS_PAGE = PAGE_SIZE * 8;

function bytes(count: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: count }, (_, index) => index);
}

function snapshot(): ChatSnapshot {
  const group = (signature: string, layer: number, length: number, recordedLength: number) => {
    const pages = pageHashes(signature, IDS.slice(0, length), PAGE_SIZE);
    const contents = new Map([
      [`keys.${layer}`, bytes(pages.length * KEYS_PAGE)],
      [`values.${layer}`, bytes(pages.length * KEYS_PAGE)],
      ...(recordedLength > 0 ? [["residuals", bytes(pages.length * RESIDUALS_PAGE)] as const] : []),
    ]);
    return { signature, pages, length, recordedLength, contents };
  };
  return new ChatSnapshot({
    identity: { weights: "weights of A", tokenizer: "tokenizer of A" },
    messages: [
      { role: "system", content: "be \ud800 brief" },
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Ho" },
    ],
    turn: { promptText: "Hi:", ids: IDS, tail: "o", stopId: 20 },
    kv: { ids: IDS, pageSize: PAGE_SIZE, groups: [group("a", 0, 19, 18), group("b", 1, 10, 0), group("c", 2, 0, 0)] },
  });
}

/** A file whose header is `header`, or that text, with the tensors of `snapshot()`. */
function fileOf(header: unknown): Uint8Array<ArrayBuffer> {
  const tensors = snapshot().kv.groups.flatMap(({ contents }, index) =>
    [...contents].map(([name, values]) => ({ name: `${index}.${name}`, type: "U8" as const, shape: [values.length], values })),
  );
  return writeSafetensors(tensors, { "crescendo-chat": typeof header === "string" ? header : JSON.stringify(header) });
}

/** A safetensors file of this header and nothing else. */
function rawFile(header: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

type Header = Record<string, unknown>;

/** The header that `toBytes` wrote. */
function writtenHeader(): Header {
  const file = snapshot().toBytes();
  const headerBytes = Number(new DataView(file.buffer).getBigUint64(0, true));
  const json = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + headerBytes)));
  return JSON.parse(json.__metadata__["crescendo-chat"]);
}

function withGroup(change: Header): Header {
  const header = writtenHeader();
  const [first, ...others] = header.groups as Header[];
  return { ...header, groups: [{ ...first, ...change }, ...others] };
}

const EARLIER = { format: "crescendo-chat", version: 1, messages: [{ role: "user", content: "Hi" }], turn: null, ids: [1], pageSize: 16 };

describe("a stored snapshot", () => {
  test("is read as it was written", async () => {
    expect(await ChatSnapshot.fromBytes(snapshot().toBytes())).toEqual(snapshot());
    expect(await ChatSnapshot.fromBytes(fileOf(writtenHeader()))).toEqual(snapshot());
  });

  test("of a conversation without an answer too", async () => {
    const empty = new ChatSnapshot({
      identity: { weights: "w", tokenizer: null },
      messages: [],
      turn: null,
      kv: { ids: [], pageSize: 16, groups: [] },
    });
    expect(await ChatSnapshot.fromBytes(empty.toBytes())).toEqual(empty);
  });

  // Version 1 named no model: its ids may be another tokenizer's, its K/V another model's.
  test("of version 1 gives its messages only", async () => {
    const groups = [{ signature: "a", pages: ["0123456789abcdef"], length: 1, recordedLength: 0, contents: ["keys.0", "values.0"] }];
    const read = await ChatSnapshot.fromBytes(fileOf({ ...EARLIER, groups }));
    expect(read.messages).toEqual(EARLIER.messages);
    expect({ turn: read.turn, ids: read.kv.ids, kvBytes: read.kvBytes, identity: read.identity }).toEqual({
      turn: null,
      ids: [],
      kvBytes: 0,
      identity: { weights: "", tokenizer: null },
    });
  });

  test.each<[string, () => unknown, string]>([
    ["is broken JSON", () => "{", "not JSON"],
    ["is another file's", () => ({ ...writtenHeader(), format: "other" }), "format"],
    ["is of a later version", () => ({ ...writtenHeader(), version: 3 }), "version is 3"],
    ["has only a version", () => ({ version: 1 }), "format"],
    ["names no model", () => ({ ...writtenHeader(), identity: undefined }), "identity"],
    ["has weights that are no text", () => ({ ...writtenHeader(), identity: { weights: 5, tokenizer: "t" } }), "identity.weights"],
    ["has a tokenizer that is no text", () => ({ ...writtenHeader(), identity: { weights: "w" } }), "identity.tokenizer is missing"],
    ["has no messages", () => ({ ...writtenHeader(), messages: null }), "messages"],
    ["has a message of null", () => ({ ...writtenHeader(), messages: [null] }), "messages[0]"],
    ["has a message of another role", () => ({ ...writtenHeader(), messages: [{ role: "__proto__", content: "a" }] }), "role"],
    ["has a message without text", () => ({ ...writtenHeader(), messages: [{ role: "user", content: 5 }] }), "content"],
    ["has ids that are texts", () => ({ ...writtenHeader(), ids: ["1"] }), "ids[0]"],
    ["has ids that are no list", () => ({ ...writtenHeader(), ids: "12" }), "ids"],
    ["has a fraction among the ids", () => ({ ...writtenHeader(), ids: [1, 1.5] }), "ids[1]"],
    ["has a negative id", () => ({ ...writtenHeader(), ids: [-1] }), "ids[0]"],
    ["has an id beyond 32 bits", () => ({ ...writtenHeader(), ids: [2 ** 32] }), "ids[0]"],
    ["has a turn that is a number", () => ({ ...writtenHeader(), turn: 5 }), "turn"],
    ["has a turn and no answer", () => ({ ...writtenHeader(), messages: [] }), "turn"],
    ["has a turn without a prompt", () => ({ ...writtenHeader(), turn: { tail: "", stopId: null } }), "turn.promptText"],
    ["has a stop token that does not end the ids", () => ({ ...writtenHeader(), turn: { promptText: "", tail: "", stopId: 3 } }), "stopId"],
    ["has no pages' size", () => ({ ...writtenHeader(), pageSize: undefined }), "pageSize"],
    ["has pages of no positions", () => ({ ...writtenHeader(), pageSize: 0 }), "pageSize"],
    ["has pages of a fraction", () => ({ ...writtenHeader(), pageSize: 1.5 }), "pageSize"],
    ["has groups of null", () => ({ ...writtenHeader(), groups: null }), "groups"],
    ["has a group of null", () => ({ ...writtenHeader(), groups: [null] }), "groups[0]"],
    ["has a group without fields", () => ({ ...writtenHeader(), groups: [{}] }), "groups[0]"],
    ["has a group that is a list", () => ({ ...writtenHeader(), groups: [[]] }), "groups[0]"],
    ["has no signature", () => withGroup({ signature: null }), "groups[0].signature"],
    ["has a negative length", () => withGroup({ length: -5 }), "groups[0].length"],
    ["has more K/V than ids", () => withGroup({ length: 21 }), "groups[0].length"],
    ["records more than it has", () => withGroup({ recordedLength: 20 }), "groups[0].recordedLength"],
    ["records what it has no residuals of", () => withGroup({ contents: ["keys.0", "values.0"] }), "recordedLength"],
    ["has too few pages", () => withGroup({ pages: ["0123456789abcdef"] }), "groups[0].pages"],
    ["has pages without names", () => withGroup({ pages: [1, 2] }), "pages[0]"],
    ["has a buffer of another name", () => withGroup({ contents: ["keys.0", "values.0", "queries.0"] }), "contents[2]"],
    ["has a buffer twice", () => withGroup({ contents: ["keys.0", "values.0", "keys.0", "residuals"] }), "contents"],
    ["has keys without values", () => withGroup({ contents: ["keys.0", "residuals"] }), "values.0"],
    ["names a tensor that is not there", () => withGroup({ contents: ["keys.7", "values.7", "residuals"] }), "missing"],
    [
      "has pages of a size that its bytes do not have",
      () => ({ ...withGroup({ pages: ["0123456789abcdef"] }), pageSize: 100 }),
      "expected the bytes",
    ],
    ["is nested 12,000 deep", () => `{"format":"crescendo-chat","version":2,"ids":${"[".repeat(12_000)}${"]".repeat(12_000)}}`, "messages"],
    [
      "has an id nested 100,000 deep",
      () => JSON.stringify({ ...writtenHeader(), ids: "IDS" }).replace('"IDS"', `${"[".repeat(100_000)}${"]".repeat(100_000)}`),
      "ids[0] is a list of 1",
    ],
    ["of version 1 has no groups", () => ({ ...EARLIER, groups: null }), "groups"],
    ["of version 1 has a broken turn", () => ({ ...EARLIER, groups: [], turn: { promptText: "", tail: "", stopId: null } }), "turn.ids"],
  ])("that %s is refused", async (_, header, words) => {
    await expectLlmError(ChatSnapshot.fromBytes(fileOf(header())), "bad-file", words);
  });

  test.each<[string, string, number]>([
    ["half of a layer's K/V", "0.values.0", KEYS_PAGE],
    ["no K/V in a layer", "0.keys.0", 0],
    ["more K/V than pages", "1.keys.1", 3 * KEYS_PAGE + 2],
    ["half a page of residuals", "0.residuals", RESIDUALS_PAGE / 4 + 2],
  ])("with %s is refused", async (_, tensor, byteCount) => {
    const tensors = snapshot().kv.groups.flatMap(({ contents }, index) =>
      [...contents].map(([name, values]) => ({
        name: `${index}.${name}`,
        values: tensor === `${index}.${name}` ? bytes(byteCount) : values,
      })),
    );
    const file = writeSafetensors(
      tensors.map((each) => ({ ...each, type: "U8", shape: [each.values.length] })),
      { "crescendo-chat": JSON.stringify(writtenHeader()) },
    );
    await expectLlmError(ChatSnapshot.fromBytes(file), "bad-file", "groups[");
  });

  test("that is cut short, or no file at all, says so", async () => {
    const whole = snapshot().toBytes();
    for (const length of [0, 7, 100, whole.length - 1])
      await expectLlmError(ChatSnapshot.fromBytes(whole.slice(0, length)), "bytes-truncated");
    await expectLlmError(ChatSnapshot.fromBytes(new Uint8Array(100)), "bad-file");
    await expectLlmError(ChatSnapshot.fromBytes(writeSafetensors([], {})), "bad-file", "Start the chat anew");
  });

  test("with a tensor whose shape is nested 100,000 deep is refused", async () => {
    const shape = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    await expectLlmError(ChatSnapshot.fromBytes(rawFile(`{"a":{"dtype":"U8","shape":${shape},"data_offsets":[0,0]}}`)), "bad-file");
  });

  test("is quoted in an error to 200 characters", async () => {
    const long = "x".repeat(100_000);
    const headers = [
      { ...writtenHeader(), format: long },
      { ...writtenHeader(), messages: [{ role: long, content: "" }] },
      withGroup({ contents: [long] }),
      `{"${long}`,
    ];
    const rest = JSON.stringify({ [long]: { dtype: long, shape: [], data_offsets: [0, 0] } });
    for (const each of [...headers.map(fileOf), rawFile(rest)]) {
      const error = await ChatSnapshot.fromBytes(each).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(LlmError);
      expect((error as LlmError).message.length).toBeLessThan(400);
    }
  });
});

// Values that a field may be taken for another's, or break what reads it.
const HOSTILE = [null, true, -1, 0, 1.5, 1e308, 2 ** 53, "", "a", "__proto__", [], [null], [[]], {}, { length: 1e9 }, undefined];

/** `value` with one thing in it changed. */
function mutated(random: Random, value: unknown): unknown {
  const pick = <T>(list: readonly T[]): T => list[random.integer(list.length)] as T;
  if (typeof value !== "object" || value === null || random.next() < 0.15) return pick(HOSTILE);
  const keys = Object.keys(value);
  if (keys.length === 0) return pick(HOSTILE);
  const key = pick(keys);
  const changed = mutated(random, (value as Header)[key]);
  if (Array.isArray(value)) return value.with(Number(key), changed);
  return { ...value, [key]: changed };
}

describe("500 damaged snapshots", () => {
  /** What holds of every snapshot that is accepted. */
  function expectSound({ messages, turn, kv, kvBytes }: ChatSnapshot): void {
    for (const { role, content } of messages) expect([typeof role, typeof content]).toEqual(["string", "string"]);
    expect(kv.ids.every((id) => Number.isInteger(id) && id >= 0)).toBe(true);
    if (turn) expect([turn.ids, typeof turn.promptText, typeof turn.tail]).toEqual([kv.ids, "string", "string"]);
    expect(kv.pageSize).toBeGreaterThan(0);
    expect(kvBytes).toBeGreaterThanOrEqual(0);
    for (const { length, recordedLength, pages, contents } of kv.groups) {
      expect(recordedLength).toBeLessThanOrEqual(length);
      expect(length).toBeLessThanOrEqual(kv.ids.length);
      expect(pages).toHaveLength(Math.ceil(length / kv.pageSize));
      for (const { byteLength } of contents.values()) expect(byteLength % (pages.length || 1)).toBe(0);
    }
  }

  test("are read soundly or refused: nothing else comes out", async () => {
    const random = seededRandom("damaged snapshots");
    const whole = snapshot().toBytes();
    let refused = 0;
    for (let round = 0; round < 500; round++) {
      let file: Uint8Array<ArrayBuffer>;
      if (round % 2 === 0) {
        file = fileOf(mutated(random, writtenHeader()) ?? null);
      } else {
        file = whole.slice(0, random.next() < 0.2 ? random.integer(whole.length) : whole.length);
        for (let flips = 0; flips < 3; flips++) file[random.integer(file.length)] = random.integer(256);
      }
      const result = await ChatSnapshot.fromBytes(file).catch((reason: unknown) => reason);
      if (result instanceof ChatSnapshot) {
        expectSound(result);
        continue;
      }
      refused++;
      expect(result, String(result)).toBeInstanceOf(LlmError);
      expect(["bad-file", "bytes-truncated"]).toContain((result as LlmError).code);
    }
    expect(refused).toBeGreaterThan(250);
    expect(refused).toBeLessThan(500);
  });
});

describe("of a snapshot an engine uses", () => {
  const model = {
    identity: { weights: "weights of A", tokenizer: "tokenizer of A", isStable: true },
    config: { vocabSize: 100 },
    contextLength: 64,
  };
  const used = (changes: object, content = snapshot()) => usablePart(content, { ...model, ...changes } as never);

  test("K/V where weights and tokenizer are those it was taken of", () => expect(used({})).toBe("kv"));

  test("the tokens where only the tokenizer is", () => {
    expect(used({ identity: { ...model.identity, weights: "of B" } })).toBe("ids");
  });

  test("the tokens where they are more than its context holds", () => expect(used({ contextLength: 19 })).toBe("ids"));

  test.each<[string, object]>([
    ["the tokenizer is another", { identity: { ...model.identity, tokenizer: "of B" } }],
    ["the tokenizer is not known", { identity: { ...model.identity, tokenizer: null } }],
    ["a token is no row of its vocabulary", { config: { vocabSize: 20 } }],
  ])("the messages where %s", (_, changes) => expect(used(changes)).toBe("messages"));

  test("the messages where it was taken of no known tokenizer", () => {
    const { messages, turn, kv } = snapshot();
    const nameless = new ChatSnapshot({ identity: { weights: "weights of A", tokenizer: null }, messages, turn, kv });
    expect(used({}, nameless)).toBe("messages");
    expect(used({ identity: { ...model.identity, tokenizer: null } }, nameless)).toBe("messages");
  });
});
