// The paged K/V cache: [page][kv head][position in page][HEAD_DIM], pages in any order, f32 or two halves a u32.
// Needs PAGE_SIZE, KV_HEAD_COUNT, HEAD_DIM and KV_FORMAT. Kernels load and store quads of four dimensions.

const HEAD_QUADS = HEAD_DIM / 4u;

// Index of the first quad of a position's K or V, given its page from the page table.
fn cache_quads(page: u32, kv_head: u32, position: u32) -> u32 {
  return ((page * KV_HEAD_COUNT + kv_head) * PAGE_SIZE + position % PAGE_SIZE) * HEAD_QUADS;
}

#if KV_FORMAT == f16
alias Quad = vec2<u32>;
fn unpack_quad(quad: Quad) -> vec4<f32> { return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y)); }
// Rounds to the nearest half, ties to even. pack2x16float may round as the device likes; some devices truncate, with twice the error.
// Values beyond the largest half are clamped to it, since an infinity would spread. Subnormal halves are rounded by packing alone.
fn pack_quad(value: vec4<f32>) -> Quad {
  let bounded = clamp(value, vec4<f32>(-65504.0), vec4<f32>(65504.0));
  let bits = bitcast<vec4<u32>>(bounded);
  let rounded = bitcast<vec4<f32>>((bits + 0xfffu + ((bits >> vec4<u32>(13u)) & vec4<u32>(1u))) & vec4<u32>(0xffffe000u));
  let halves = select(rounded, bounded, abs(bounded) < vec4<f32>(6.103515625e-5));
  return vec2<u32>(pack2x16float(halves.xy), pack2x16float(halves.zw));
}
#else
alias Quad = vec4<f32>;
fn unpack_quad(quad: Quad) -> vec4<f32> { return quad; }
fn pack_quad(value: vec4<f32>) -> Quad { return value; }
#endif
