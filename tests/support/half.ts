// IEEE half precision on the CPU, written for the tests alone, so that it checks the sources' own.

/** The bits of the half nearest to `value` (ties to even). */
export function halfBits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  const exponent = Math.max(-14, Math.floor(Math.log2(magnitude)));
  // In units of the last of 10 fraction bits. A mantissa rounded up to 2048 carries into the exponent by itself.
  const units = roundHalfToEven(magnitude / 2 ** (exponent - 10));
  return sign | (units < 1024 ? units : ((exponent + 15) << 10) + (units - 1024));
}

export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

export function roundToHalf(value: number): number {
  return halfValue(halfBits(value));
}

/** Two halves a word, the first in the low bits, as WGSL's pack2x16float has it. An odd last one is padded with 0. */
export function packHalves(values: ArrayLike<number>): Uint32Array<ArrayBuffer> {
  return Uint32Array.from(
    { length: Math.ceil(values.length / 2) },
    (_, word) => (halfBits(values[2 * word] ?? 0) | (halfBits(values[2 * word + 1] ?? 0) << 16)) >>> 0,
  );
}

export function unpackHalves(words: Uint32Array): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: words.length * 2 }, (_, index) =>
    halfValue(((words[index >> 1] ?? 0) >>> (index % 2 ? 16 : 0)) & 0xffff),
  );
}

function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}
