// Writes GGUF files for tests, honest ones and lying ones: whatever a header states can be set apart from what is there.

export type GgufValue =
  | { readonly type: "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64"; readonly value: number }
  | { readonly type: "u64" | "i64"; readonly value: bigint }
  | { readonly type: "bool"; readonly value: number }
  | { readonly type: "string"; readonly value: string | Uint8Array; readonly statedLength?: bigint }
  | { readonly type: "array"; readonly of: number; readonly items: readonly GgufValue[]; readonly statedLength?: bigint }
  /** A value of a type that the format does not have, without bytes. */
  | { readonly type: "none"; readonly number: number };

export interface GgufTensorSpec {
  readonly name: string;
  /** The type's number in the format. */
  readonly type: number;
  /** Innermost first, as the format has them. */
  readonly dimensions: readonly (number | bigint)[];
  readonly offset: number | bigint;
}

export interface GgufSpec {
  readonly magic?: string;
  readonly version?: number;
  readonly statedTensorCount?: bigint;
  readonly statedMetadataCount?: bigint;
  readonly metadata?: readonly (readonly [key: string | Uint8Array, value: GgufValue])[];
  readonly tensors?: readonly GgufTensorSpec[];
  /** How the data really is aligned. */
  readonly alignment?: number;
  readonly dataBytes?: number;
}

export const GGUF_VALUE_TYPES = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

/** The file's bytes; the tensors' data counts up from 0, a byte at a time. */
export function ggufBytes(spec: GgufSpec): Uint8Array<ArrayBuffer> {
  const { magic = "GGUF", version = 3, metadata = [], tensors = [], alignment = 32, dataBytes = 0 } = spec;
  const out = new Writer();
  out.bytes(new TextEncoder().encode(magic));
  out.u32(version);
  out.u64(spec.statedTensorCount ?? BigInt(tensors.length));
  out.u64(spec.statedMetadataCount ?? BigInt(metadata.length));
  for (const [key, value] of metadata) {
    out.string(key);
    out.u32(value.type === "none" ? value.number : GGUF_VALUE_TYPES[value.type]);
    writeValue(out, value);
  }
  for (const { name, dimensions, type, offset } of tensors) {
    out.string(name);
    out.u32(dimensions.length);
    for (const size of dimensions) out.u64(BigInt(size));
    out.u32(type);
    out.u64(BigInt(offset));
  }
  if (dataBytes > 0) {
    while (out.length % alignment !== 0) out.u8(0);
    for (let index = 0; index < dataBytes; index++) out.u8(index & 255);
  }
  return out.whole();
}

function writeValue(out: Writer, value: GgufValue): void {
  switch (value.type) {
    case "string":
      return out.string(value.value, value.statedLength);
    case "array":
      out.u32(value.of);
      out.u64(value.statedLength ?? BigInt(value.items.length));
      for (const item of value.items) writeValue(out, item);
      return;
    case "u64":
    case "i64":
      return out.u64(BigInt.asUintN(64, value.value));
    case "none":
      return;
    default:
      return out.number(value.type, value.value);
  }
}

class Writer {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }

  whole(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#bytes);
  }

  bytes(bytes: Uint8Array): void {
    for (const byte of bytes) this.#bytes.push(byte);
  }

  u8(value: number): void {
    this.#bytes.push(value & 255);
  }

  u32(value: number): void {
    this.number("u32", value);
  }

  u64(value: bigint): void {
    this.#write(8, (view) => view.setBigUint64(0, value, true));
  }

  string(value: string | Uint8Array, statedLength?: bigint): void {
    const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
    this.u64(statedLength ?? BigInt(bytes.length));
    this.bytes(bytes);
  }

  number(type: "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64" | "bool", value: number): void {
    switch (type) {
      case "u8":
      case "i8":
      case "bool":
        return this.u8(value);
      case "u16":
      case "i16":
        return this.#write(2, (view) => view.setUint16(0, value, true));
      case "u32":
      case "i32":
        return this.#write(4, (view) => view.setUint32(0, value, true));
      case "f32":
        return this.#write(4, (view) => view.setFloat32(0, value, true));
      case "f64":
        return this.#write(8, (view) => view.setFloat64(0, value, true));
    }
  }

  #write(byteCount: number, set: (view: DataView) => void): void {
    const bytes = new Uint8Array(byteCount);
    set(new DataView(bytes.buffer));
    this.bytes(bytes);
  }
}
