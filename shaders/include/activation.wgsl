// Activations of the MLP, in f32. Arguments of exp are bounded, because WGSL does not guarantee infinities.

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-max(x, -80.0))); }

fn silu(x: f32) -> f32 { return x * sigmoid(x); }

// x · Φ(x). Abramowitz and Stegun 7.1.26 gives erfc(|x|/√2), from which both signs follow without cancellation; |error| < 4e-7.
fn gelu(x: f32) -> f32 {
  let z = min(abs(x) * 0.70710678, 9.0);
  let t = 1.0 / (1.0 + 0.3275911 * z);
  let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return max(x, 0.0) - 0.5 * abs(x) * series * exp(-z * z);
}

// 0.5·x·(1 + tanh(u)) = x·sigmoid(2u); some drivers' tanh overflows.
fn gelu_tanh(x: f32) -> f32 { return x * sigmoid(1.5957691216 * (x + 0.044715 * x * x * x)); }
