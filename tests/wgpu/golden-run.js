// Runs a golden case on whatever WebGPU is here, with the built module: imported by a page and by Deno alike.
// What it returns travels as JSON.

/** @param {string} origin where the repository is served @param {number[]} ids @param {number} maxTokens */
export async function runGolden(origin, ids, maxTokens) {
  const { loadEngine } = await import(`${origin}/dist/crescendo.js`);
  const errors = [];
  let emptySubmits = 0;
  const { submit } = GPUQueue.prototype;
  GPUQueue.prototype.submit = function (commands) {
    if (commands.length === 0) emptySubmits++;
    return submit.call(this, commands);
  };
  const engine = await loadEngine(`${origin}/tests/golden/llama-gqa/`, {
    ...{ needsTokenizer: false, plan: "whole", tuning: "off", contextLength: 128, chunkRows: 72, kvFormat: "f32" },
    onEvent: (event) => event.type === "gpu-error" && errors.push(event.message),
  });
  try {
    const logits = [];
    await engine.evaluate({ ids, chunk: ids.length, onLogits: (_, rows) => logits.push(...rows) });
    const { ids: greedy } = await engine.generateIds(ids, { temperature: 0, maxTokens });
    return { adapter: engine.adapterName, logits, greedy, errors, emptySubmits };
  } finally {
    engine.dispose();
  }
}
