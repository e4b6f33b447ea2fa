// Writes a safetensors file: what the command line's evaluations leave behind, and what tests read back.
import { assert } from "../assert";
import { SAFETENSORS_BLOCKS, type SafetensorsType } from "./safetensors-types";
import { tensorByteLength } from "./tensor-extent";

export interface WritableTensor {
  readonly name: string;
  readonly type: SafetensorsType;
  /** Outermost first. */
  readonly shape: readonly number[];
  /** The elements, row-major and little-endian as every machine with WebGPU has them: a typed array, or raw bytes for F16 and BF16. */
  readonly values: ArrayBufferView;
}

/** A whole file of `tensors`, wider elements first so that each tensor is aligned to its elements. `metadata` becomes `__metadata__`. */
export function writeSafetensors(tensors: Iterable<WritableTensor>, metadata?: Readonly<Record<string, string>>): Uint8Array<ArrayBuffer> {
  const sorted = [...tensors].sort((a, b) => SAFETENSORS_BLOCKS[b.type].bytes - SAFETENSORS_BLOCKS[a.type].bytes);
  const entries = new Map<string, object>(metadata ? [["__metadata__", metadata]] : []);
  let dataBytes = 0;
  for (const { name, type, shape, values } of sorted) {
    const where = `tensor "${name}"`;
    const expectedBytes = tensorByteLength({ type, block: SAFETENSORS_BLOCKS[type], shape, where });
    assert(values.byteLength === expectedBytes, `${where} has ${values.byteLength} bytes of values, its shape wants ${expectedBytes}`);
    assert(name !== "__metadata__" && !entries.has(name), `${where} has a name that is taken`);
    entries.set(name, { dtype: type, shape, data_offsets: [dataBytes, dataBytes + expectedBytes] });
    dataBytes += expectedBytes;
  }
  const header = encodeHeader(entries);
  const file = new Uint8Array(header.length + dataBytes);
  file.set(header);
  let offset = header.length;
  for (const { values } of sorted) {
    file.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset);
    offset += values.byteLength;
  }
  return file;
}

function encodeHeader(entries: ReadonlyMap<string, object>): Uint8Array {
  const json = JSON.stringify(Object.fromEntries(entries));
  const unpadded = new TextEncoder().encode(json);
  const headerBytes = Math.ceil(unpadded.length / 8) * 8; // spaces up to the next 8 bytes, so that the data is aligned
  const header = new Uint8Array(8 + headerBytes).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(headerBytes), true);
  header.set(unpadded, 8);
  return header;
}
