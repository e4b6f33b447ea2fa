// The epilogue and the output place of each product of the model.
import type { LinearUse } from "./linear";
import type { ProgramContext } from "./program-context";

function fusedNorm({ config }: ProgramContext): Pick<LinearUse, "normEpsilon"> {
  return config.norm === "rms" ? { normEpsilon: config.normEpsilon } : {};
}

export function layerUses(context: ProgramContext) {
  const { config, scratch } = context;
  const { strides } = scratch;
  const upEpilogue = ({ "silu-gated": "silu-gated", gelu: "gelu", "gelu-tanh": "gelu-tanh" } as const)[config.activation];
  return {
    qkv: { epilogue: "store", bias: config.qkvBias, yStride: strides.qkv, ...fusedNorm(context) },
    attentionOutput: { epilogue: "add", bias: false, yStride: strides.hidden },
    up: { epilogue: upEpilogue, bias: false, yStride: strides.mlp, ...fusedNorm(context) },
    down: { epilogue: "add", bias: false, yStride: strides.hidden },
  } as const satisfies Readonly<Record<string, LinearUse>>;
}

export function headUse(context: ProgramContext): LinearUse {
  return { epilogue: "store", bias: false, yStride: context.config.vocabSize, ...fusedNorm(context) };
}
