// Half-precision floats as bits: not every JavaScript engine has Float16Array.

const float = new Float32Array(1);
const floatBits = new Uint32Array(float.buffer);

/** The bits of the half nearest to `value` (rounded to f32), ties to even. Values that round above 65504 become infinity. */
export function halfBits(value: number): number {
  float[0] = value;
  const bits = floatBits[0] as number;
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x477ff000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00); // from 65520 on, and NaN
  if (magnitude < 0x38800000) {
    // Subnormal halves have steps of 2^-24. So has an f32 from 0.5 on: adding 0.5 rounds to these steps.
    float[0] = Math.abs(value) + 0.5;
    return sign | ((floatBits[0] as number) - 0x3f000000);
  }
  // Drop 13 bits of the fraction and move the exponent's zero from 127 to 15. A carry out of the fraction raises the exponent.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

let values: Float32Array<ArrayBuffer> | null = null;

/** The value of a half, from a table of all 65,536 (256 KiB, built at the first call): decoding each time is slower. */
export function halfValue(bits: number): number {
  values ??= Float32Array.from({ length: 0x10000 }, (_, each) => valueOfHalf(each));
  return values[bits] as number;
}

function valueOfHalf(bits: number): number {
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

let fromBfloat: Uint16Array<ArrayBuffer> | null = null;

/** The bits of the half nearest to the bfloat16 with these bits, from a table as in `halfValue`. */
export function halfOfBfloat(bits: number): number {
  fromBfloat ??= Uint16Array.from({ length: 0x10000 }, (_, each) => halfBits(bfloatValue(each)));
  return fromBfloat[bits] as number;
}

/** A bfloat16 is the upper half of an f32. */
export function bfloatValue(bits: number): number {
  floatBits[0] = bits << 16;
  return float[0] as number;
}
