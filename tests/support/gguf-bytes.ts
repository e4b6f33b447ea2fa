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
  const header = join([
    new TextEncoder().encode(magic),
    u32(version),
    u64(spec.statedTensorCount ?? BigInt(tensors.length)),
    u64(spec.statedMetadataCount ?? BigInt(metadata.length)),
    ...metadata.flatMap(([key, value]) => [stringBytes(key), u32(typeNumber(value)), valueBytes(value)]),
    ...tensors.flatMap(({ name, dimensions, type, offset }) => [
      stringBytes(name),
      u32(dimensions.length),
      ...dimensions.map((size) => u64(BigInt(size))),
      u32(type),
      u64(BigInt(offset)),
    ]),
  ]);
  if (dataBytes === 0) return header;
  const padding = new Uint8Array((alignment - (header.length % alignment)) % alignment);
  return join([header, padding, Uint8Array.from({ length: dataBytes }, (_, index) => index)]);
}

function typeNumber(value: GgufValue): number {
  return value.type === "none" ? value.number : GGUF_VALUE_TYPES[value.type];
}

function valueBytes(value: GgufValue): Uint8Array {
  switch (value.type) {
    case "none":
      return new Uint8Array();
    case "string":
      return stringBytes(value.value, value.statedLength);
    case "array":
      return join([u32(value.of), u64(value.statedLength ?? BigInt(value.items.length)), ...value.items.map(valueBytes)]);
    case "u64":
    case "i64":
      return u64(BigInt.asUintN(64, value.value));
    case "bool":
      return Uint8Array.of(value.value);
    default:
      return new Uint8Array(NUMBER_ARRAYS[value.type].of(value.value).buffer);
  }
}

/** Typed arrays are little-endian on every machine that runs this, as the format is. */
const NUMBER_ARRAYS = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  f64: Float64Array,
};

function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function u64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}

function stringBytes(value: string | Uint8Array, statedLength?: bigint): Uint8Array {
  const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
  return join([u64(statedLength ?? BigInt(bytes.length)), bytes]);
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
