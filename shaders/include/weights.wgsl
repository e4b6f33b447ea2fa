// Weights in the layouts of src/weights/weight-format.ts: w = scale · code + offset.
// Needs FORMAT and GROUPS (groups of 32 in a row); for the q formats also a binding `scales: array<u32>`.

// An octet is eight weights of one row, unpacked to two vec4s of consecutive columns. A q4 group pairs its first half with its second, so octet j of a
// group holds vec4s j and j + 4 there; in the other formats it holds 2j and 2j + 1. If codes have four bits, `octet_bytes` returns the two vec4s as signed
// bytes, in units of the scale.
#if FORMAT == f32
alias Octet = mat2x4<f32>;
fn unpack_octet(code: Octet) -> mat2x4<f32> { return code; }
#elif FORMAT == f16
alias Octet = vec4<u32>;
fn unpack_octet(code: Octet) -> mat2x4<f32> {
  return mat2x4<f32>(
    vec4<f32>(unpack2x16float(code.x), unpack2x16float(code.y)),
    vec4<f32>(unpack2x16float(code.z), unpack2x16float(code.w)));
}
#elif FORMAT == q8
alias Octet = vec2<u32>;
fn unpack_octet(code: Octet) -> mat2x4<f32> {
  return mat2x4<f32>(vec4<f32>(unpack4xI8(code.x)), vec4<f32>(unpack4xI8(code.y)));
}
#elif FORMAT == q4
// A nibble in the upper half of a byte with its top bit flipped is the signed byte 16 · (q − 8). Subtracting 8 thus costs nothing, and nothing cancels. Σ
// q·x − 8 · Σ x would cancel if x has outliers.
alias Octet = u32;
fn octet_bytes(code: Octet) -> vec2<u32> {
  return vec2<u32>(((code << 4u) & 0xf0f0f0f0u) ^ 0x80808080u, (code & 0xf0f0f0f0u) ^ 0x80808080u);
}
fn unpack_octet(code: Octet) -> mat2x4<f32> {
  let bytes = octet_bytes(code);
  return mat2x4<f32>(vec4<f32>(unpack4xI8(bytes.x)), vec4<f32>(unpack4xI8(bytes.y)));
}
#else
alias Octet = u32;
fn octet_bytes(code: Octet) -> vec2<u32> { return vec2<u32>(code & 0x0f0f0f0fu, (code >> 4u) & 0x0f0f0f0fu); }
fn unpack_octet(code: Octet) -> mat2x4<f32> {
  let bytes = octet_bytes(code);
  return mat2x4<f32>(vec4<f32>(unpack4xU8(bytes.x)), vec4<f32>(unpack4xU8(bytes.y)));
}
#endif

// The places of the two vec4s of octet `octet` (0 to 3) in its group.
fn octet_places(octet: u32) -> vec2<u32> {
#if FORMAT == q4 || FORMAT == q4m
  return vec2<u32>(octet, octet + 4u);
#else
  return vec2<u32>(2u * octet, 2u * octet + 1u);
#endif
}

// The word that holds a group's scale. It is unpacked separately, so that it can be loaded ahead.
fn load_scale_word(row: u32, group: u32) -> u32 {
#if FORMAT == q4m
  return scales[row * GROUPS + group];
#elif FORMAT == q4 || FORMAT == q8
  return scales[row * ((GROUPS + 1u) / 2u) + group / 2u];
#else
  return 0u;
#endif
}

// (scale, offset) of a group. They are constants if the format has none, so that the compiler drops them.
fn unpack_scale(word: u32, group: u32) -> vec2<f32> {
#if FORMAT == q4m
  return unpack2x16float(word);
#elif FORMAT == q4 || FORMAT == q8
  let pair = unpack2x16float(word);
  let scale = select(pair.x, pair.y, (group & 1u) == 1u);
#if FORMAT == q4
  return vec2<f32>(scale / 16.0, 0.0);
#else
  return vec2<f32>(scale, 0.0);
#endif
#else
  return vec2<f32>(1.0, 0.0);
#endif
}
