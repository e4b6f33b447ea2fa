// Half-precision floats as bits: JavaScript's engines do not all have Float16Array.

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The bits of the half nearest to `value`, ties to even; beyond 65504 that is infinity. `value` is taken as an f32. */
export function halfBits(value: number): number {
  float[0] = value;
  const bits = floatBits[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x477ff000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00); // from 65520 on, and NaN
  if (magnitude < 0x38800000) {
    // Subnormal in a half, which counts in steps of 2^-24: so does an f32 from 0.5 on, and adding rounds to it.
    float[0] = Math.abs(value) + 0.5;
    return sign | ((floatBits[0] as number) - 0x3f000000);
  }
  // Drop 13 bits of the fraction and move the exponent's zero from 127 to 15. A carry out of the fraction raises the exponent.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** Whether the bits stand for infinity or NaN. */
export function isHalfNonFinite(bits: number): boolean {
  return (bits & 0x7c00) === 0x7c00;
}

let values: Float32Array<ArrayBuffer> | null = null;

/** The value of each of the 65,536 halves (256 KiB, made at the first call): reading them one by one would take most of packing's time. */
export function halfValues(): Float32Array<ArrayBuffer> {
  values ??= Float32Array.from({ length: 0x10000 }, (_, bits) => halfValue(bits));
  return values;
}

let fromBfloat: Uint16Array<ArrayBuffer> | null = null;

/** The half nearest to each of the 65,536 bfloat16s, by its bits (128 KiB, made at the first call). */
export function halvesOfBfloats(): Uint16Array<ArrayBuffer> {
  fromBfloat ??= Uint16Array.from({ length: 0x10000 }, (_, bits) => halfBits(bfloatValue(bits)));
  return fromBfloat;
}

/** A bfloat16 is the upper half of an f32. */
export function bfloatValue(bits: number): number {
  floatBits[0] = bits << 16;
  return float[0] as number;
}
