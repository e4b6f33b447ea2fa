// A conversation at rest: what was said, its true token ids and its K/V, in CPU memory or as bytes (a safetensors file).
import { openBlob } from "../bytes/blob-source";
import { LlmError } from "../errors";
import { readSafetensors } from "../formats/safetensors";
import { type WritableTensor, writeSafetensors } from "../formats/safetensors-writer";
import { requireStored } from "../formats/tensor-directory";
import { type GroupSnapshot, type KvSnapshot, snapshotBytes } from "../kv/kv-snapshot";
import type { TranscriptMessage, TranscriptTurn } from "./transcript";

const FORMAT = "crescendo-chat";
const VERSION = 1;

/** What is written as JSON; all bytes are tensors beside it. */
interface Header {
  readonly format: string;
  readonly version: number;
  readonly messages: readonly TranscriptMessage[];
  readonly turn: TranscriptTurn | null;
  readonly ids: readonly number[];
  readonly pageSize: number;
  readonly groups: readonly (Omit<GroupSnapshot, "contents"> & { readonly contents: readonly string[] })[];
}

export class ChatSnapshot {
  readonly messages: readonly TranscriptMessage[];
  /** @internal */
  readonly turn: TranscriptTurn | null;
  /** @internal */
  readonly kv: KvSnapshot;

  constructor(messages: readonly TranscriptMessage[], turn: TranscriptTurn | null, kv: KvSnapshot) {
    this.messages = messages;
    this.turn = turn;
    this.kv = kv;
  }

  /** Of the K/V in it. */
  get kvBytes(): number {
    return snapshotBytes(this.kv);
  }

  toBytes(): Uint8Array<ArrayBuffer> {
    const { ids, pageSize, groups } = this.kv;
    const header: Header = {
      ...{ format: FORMAT, version: VERSION, messages: this.messages, turn: this.turn, ids, pageSize },
      groups: groups.map(({ contents, ...group }) => ({ ...group, contents: [...contents.keys()] })),
    };
    const tensors = groups.flatMap(({ contents }, index) =>
      Array.from(
        contents,
        ([name, values]): WritableTensor => ({ name: tensorName(index, name), type: "U8", shape: [values.length], values }),
      ),
    );
    return writeSafetensors(tensors, { [FORMAT]: JSON.stringify(header) });
  }

  /** @throws LlmError "bad-file" when the bytes are no snapshot of this version, "bytes-truncated" when some are missing. */
  static async fromBytes(bytes: Uint8Array<ArrayBuffer>): Promise<ChatSnapshot> {
    const directory = await readSafetensors(openBlob(new Blob([bytes]), { name: "the chat's snapshot" }));
    const header = parseHeader(directory.metadata.get(FORMAT));
    const readGroup = async ({ contents: names, ...group }: Header["groups"][number], index: number): Promise<GroupSnapshot> => {
      const contents = new Map<string, Uint8Array<ArrayBuffer>>();
      for (const name of names) {
        const { source, range } = requireStored(directory, tensorName(index, name));
        contents.set(name, await source.read(range));
      }
      return { ...group, contents };
    };
    const { ids, pageSize, messages, turn } = header;
    return new ChatSnapshot(messages, turn, { ids, pageSize, groups: await Promise.all(header.groups.map(readGroup)) });
  }
}

function tensorName(group: number, buffer: string): string {
  return `${group}.${buffer}`;
}

function parseHeader(text: unknown): Header {
  const header: unknown = typeof text === "string" ? JSON.parse(text) : null;
  if (typeof header === "object" && header !== null && "version" in header && header.version === VERSION) return header as Header;
  throw new LlmError("bad-file", `The bytes are no snapshot of a chat of version ${VERSION}. Start the chat anew from its messages.`);
}
