// What matmul-vector does where a workgroup computes BATCH rows of the step: each weight is unpacked once, and each row's sums are added up in the
// order that a row alone has. Part of that shader, and of no other.

fn x_start(row: u32) -> u32 { return min(row, arrayLength(&x) / ROW_VEC4S - 1u) * ROW_VEC4S; }

// Of the unit that is being computed: products, and sums of x where weights have an offset.
var<private> unit_sums: array<f32, PRODUCT_SUMS>;
#if FORMAT == q4m
var<private> unit_x_sums: array<f32, BATCH>;
#endif

// `place` is that of a vec4 in the unit, `at` that of the unit among the staged ones.
fn unit_x(b: u32, place: u32, unit: u32, at: u32) -> vec4<f32> {
#if STAGED
  return staged[(b * UNIT_VEC4S + place) * STAGED_STRIDE + at];
#else
  return load_x(b, unit * UNIT_VEC4S + place);
#endif
}

#if FORMAT == f32
fn accumulate_octet(loaded: Units, octet: u32, unit: u32, at: u32) {
  var units = loaded;
  for (var b = 0u; b < BATCH; b++) {
    let x0 = unit_x(b, 0u, unit, at);
    for (var r = 0u; r < ROWS_PER_THREAD; r++) { unit_sums[b * ROWS_PER_THREAD + r] += dot(bitcast<vec4<f32>>(units.codes[r]), x0); }
  }
}
#else
fn octet_of(code: vec4<u32>, octet: u32) -> Octet {
#if FORMAT == f16
  return code;
#elif FORMAT == q8
  return vec2<u32>(code[2u * octet], code[2u * octet + 1u]);
#else
  return code[octet];
#endif
}

fn accumulate_octet(loaded: Units, octet: u32, unit: u32, at: u32) {
  var units = loaded;
  var weights: array<mat2x4<f32>, ROWS_PER_THREAD>;
  for (var r = 0u; r < ROWS_PER_THREAD; r++) { weights[r] = unpack_octet(octet_of(units.codes[r], octet)); }
  let places = octet_places(octet);
  for (var b = 0u; b < BATCH; b++) {
    let x0 = unit_x(b, places.x, unit, at);
    let x1 = unit_x(b, places.y, unit, at);
#if FORMAT == q4m
    unit_x_sums[b] += sum_octet(x0, x1);
#endif
    for (var r = 0u; r < ROWS_PER_THREAD; r++) { unit_sums[b * ROWS_PER_THREAD + r] += dot(weights[r][0], x0) + dot(weights[r][1], x1); }
  }
}
#endif

fn accumulate_batch(loaded: Units, unit: u32, at: u32) {
  var units = loaded;
  for (var i = 0u; i < PRODUCT_SUMS; i++) { unit_sums[i] = 0.0; }
#if FORMAT == q4m
  for (var b = 0u; b < BATCH; b++) { unit_x_sums[b] = 0.0; }
#endif
  // Not a loop: what an octet's number indexes has to stay in registers.
  accumulate_octet(units, 0u, unit, at);
#if FORMAT == q8 || FORMAT == q4 || FORMAT == q4m
  accumulate_octet(units, 1u, unit, at);
#endif
#if FORMAT == q4 || FORMAT == q4m
  accumulate_octet(units, 2u, unit, at);
  accumulate_octet(units, 3u, unit, at);
#endif
  for (var r = 0u; r < ROWS_PER_THREAD; r++) {
    let scale = unpack_scale(units.scale_words[r], unit * UNIT_VEC4S / 8u);
    for (var b = 0u; b < BATCH; b++) {
#if FORMAT == q4m
      let x_sum = unit_x_sums[b];
#else
      let x_sum = 0.0;
#endif
      sums[b * ROWS_PER_THREAD + r] += scale.x * unit_sums[b * ROWS_PER_THREAD + r] + scale.y * x_sum;
    }
  }
}

#if STAGED && NORM
// Every team adds up all threads' squares, a share each lane: which thread squares what is as in the one-row form.
fn sum_squares(thread: u32) {
  var squares: array<vec4<f32>, SQUARE_VEC4S>;
  for (var column = thread; column < ROW_VEC4S; column += WORKGROUP_SIZE) {
    for (var b = 0u; b < BATCH; b++) {
      let value = x[x_starts[b] + column];
      squares[b / 4u][b % 4u] += dot(value, value);
    }
  }
  for (var i = 0u; i < SQUARE_VEC4S; i++) { staged[i * WORKGROUP_SIZE + thread] = squares[i]; }
  workgroupBarrier();
  for (var i = 0u; i < SQUARE_VEC4S; i++) {
    var sum = vec4<f32>();
    for (var j = thread % LANES; j < WORKGROUP_SIZE; j += LANES) { sum += staged[i * WORKGROUP_SIZE + j]; }
    squares[i] = sum;
  }
  for (var b = 0u; b < BATCH; b++) { sums[PRODUCT_SUMS + b] = squares[b / 4u][b % 4u]; }
  workgroupBarrier();
}
#endif

// Sums the thread's share of its rows' products with every row of x, and of the squares of x.
fn multiply(first_x: u32, first_row: u32, thread: u32) {
  let lane = thread % LANES;
#if STAGED
  var next = load_units(first_row, lane);
#if NORM
  sum_squares(thread);
#endif
  for (var chunk = 0u; chunk < ROW_VEC4S; chunk += CHUNK_VEC4S) {
    if (chunk > 0u) { workgroupBarrier(); }
    for (var i = 0u; i < STAGE_LOADS; i++) {
      let b = (thread + i * WORKGROUP_SIZE) / CHUNK_VEC4S;
      let at = (thread + i * WORKGROUP_SIZE) % CHUNK_VEC4S;
      let column = chunk + at;
      if (b < BATCH && column < ROW_VEC4S) {
        staged[(b * UNIT_VEC4S + at % UNIT_VEC4S) * STAGED_STRIDE + at / UNIT_VEC4S] = weigh(x[x_start(first_x + b) + column], column);
      }
    }
    workgroupBarrier();
    let first_unit = chunk / UNIT_VEC4S;
    // A chunk may be less than a turn of the lanes, and a lane has the units that it has for a row alone.
    for (var i = (lane - first_unit) % LANES; i < min(CHUNK_UNITS, ROW_UNITS - first_unit); i += LANES) {
      let units = next;
      next = load_units(first_row, first_unit + i + LANES);
      accumulate_batch(units, first_unit + i, i);
    }
  }
#else
  for (var unit = lane; unit < ROW_UNITS; unit += LANES) { accumulate_batch(load_units(first_row, unit), unit, unit); }
#endif
}
