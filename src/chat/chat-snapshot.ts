// A conversation at rest: what was said, its true token ids and its K/V, in CPU memory or as bytes (a safetensors file).
import { openBlob } from "../bytes/blob-source";
import { LlmError } from "../errors";
import { readSafetensors } from "../formats/safetensors";
import { type WritableTensor, writeSafetensors } from "../formats/safetensors-writer";
import { requireStored, type TensorDirectory } from "../formats/tensor-directory";
import { type GroupSnapshot, type KvSnapshot, snapshotBytes } from "../kv/kv-snapshot";
import { clip } from "./quote";
import {
  checkContentSizes,
  type GroupHeader,
  parseSnapshotHeader,
  SNAPSHOT_FORMAT,
  SNAPSHOT_VERSION,
  type SnapshotContent,
  type SnapshotIdentity,
} from "./snapshot-header";
import type { TranscriptMessage, TranscriptTurn } from "./transcript";

export class ChatSnapshot {
  /** Decides what an engine can use of it: see `engine.restoreChat`. */
  readonly identity: SnapshotIdentity;
  readonly messages: readonly TranscriptMessage[];
  /** Its ids are those of `kv`. @internal */
  readonly turn: TranscriptTurn | null;
  /** @internal */
  readonly kv: KvSnapshot;

  /** @internal */
  constructor({ identity, messages, turn, kv }: SnapshotContent) {
    this.identity = { weights: identity.weights, tokenizer: identity.tokenizer };
    this.messages = messages;
    this.turn = turn;
    this.kv = kv;
  }

  /** Bytes of K/V in it. */
  get kvBytes(): number {
    return snapshotBytes(this.kv);
  }

  /** To store it: `fromBytes` reads it again. */
  toBytes(): Uint8Array<ArrayBuffer> {
    const { ids, pageSize, groups } = this.kv;
    const turn = this.turn && { promptText: this.turn.promptText, tail: this.turn.tail, stopId: this.turn.stopId };
    const header = {
      ...{ format: SNAPSHOT_FORMAT, version: SNAPSHOT_VERSION, identity: this.identity, messages: this.messages, turn, ids, pageSize },
      groups: groups.map(({ contents, ...group }) => ({ ...group, contents: [...contents.keys()] })),
    };
    const tensors = groups.flatMap(({ contents }, index) =>
      Array.from(
        contents,
        ([name, values]): WritableTensor => ({ name: tensorName(index, name), type: "U8", shape: [values.length], values }),
      ),
    );
    return writeSafetensors(tensors, { [SNAPSHOT_FORMAT]: JSON.stringify(header) });
  }

  /**
   * Reads what `toBytes` wrote, also of version 1, of which only the messages are kept. Whether the K/V fits a model is found out by
   * `engine.restoreChat`.
   *
   * @throws LlmError "bad-file" when the bytes are no snapshot, "bytes-truncated" when some are missing.
   */
  static async fromBytes(bytes: Uint8Array<ArrayBuffer>): Promise<ChatSnapshot> {
    const directory = await readDirectory(bytes);
    const { groups, ...header } = parseSnapshotHeader(directory.metadata.get(SNAPSHOT_FORMAT));
    const { ids, pageSize, identity, messages, turn } = header;
    const read = await Promise.all(groups.map((group, index) => readGroup(directory, group, { index, pageSize })));
    return new ChatSnapshot({ identity, messages, turn, kv: { ids, pageSize, groups: read } });
  }
}

/** The file's own faults come as errors of the safetensors reader; whatever they quote is cut short. */
async function readDirectory(bytes: Uint8Array<ArrayBuffer>): Promise<TensorDirectory> {
  try {
    return await readSafetensors(openBlob(new Blob([bytes]), { name: "the chat's snapshot" }));
  } catch (cause) {
    const code = cause instanceof LlmError && cause.code === "bytes-truncated" ? cause.code : "bad-file";
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new LlmError(code, clip(reason), { cause });
  }
}

async function readGroup(
  directory: TensorDirectory,
  { contents: names, ...group }: GroupHeader,
  { index, pageSize }: { readonly index: number; readonly pageSize: number },
): Promise<GroupSnapshot> {
  const contents = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const name of names) {
    const { source, range } = requireStored(directory, tensorName(index, name));
    contents.set(name, await source.read(range));
  }
  checkContentSizes(contents, group.pages.length, { index, pageSize });
  return { ...group, contents };
}

function tensorName(group: number, buffer: string): string {
  return `${group}.${buffer}`;
}
