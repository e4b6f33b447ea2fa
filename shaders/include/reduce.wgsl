// Sums over a workgroup of WORKGROUP_SIZE threads. Must be called in uniform control flow; every thread gets the result. With SUBGROUPS, each subgroup
// contributes one partial sum, whatever its size; otherwise the sum is a tree. Threads of a subgroup must be consecutive.

#if SUBGROUPS
const MIN_SUBGROUP_SIZE = 4u;
var<workgroup> reduce_partials: array<f32, WORKGROUP_SIZE / MIN_SUBGROUP_SIZE>;

fn workgroup_sum(value: f32, thread: u32, subgroup_size: u32) -> f32 {
  let partial = subgroupAdd(value);
  workgroupBarrier(); // until all threads have read the partials of the previous reduction
  if (thread % subgroup_size == 0u) { reduce_partials[thread / subgroup_size] = partial; }
  workgroupBarrier();
  var sum = reduce_partials[0];
  for (var i = 1u; i < WORKGROUP_SIZE / subgroup_size; i++) { sum += reduce_partials[i]; }
  return sum;
}
#else
const subgroup_size = 1u; // the argument of callers without the built-in of that name
var<workgroup> reduce_partials: array<f32, WORKGROUP_SIZE>;

fn workgroup_sum(value: f32, thread: u32, _subgroup_size: u32) -> f32 {
  workgroupBarrier(); // until all threads have read the partials of the previous reduction
  reduce_partials[thread] = value;
  workgroupBarrier();
  for (var half = WORKGROUP_SIZE / 2u; half > 0u; half /= 2u) {
    if (thread < half) { reduce_partials[thread] += reduce_partials[thread + half]; }
    workgroupBarrier();
  }
  return reduce_partials[0];
}
#endif
