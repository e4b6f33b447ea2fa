// What the commands take, as a person reads it.

export class UsageError extends Error {}

const COMMON = `  --model PATH         a .gguf, or a folder with config.json, tokenizer.json and safetensors
  --context N          positions (default: what is needed, or the model's, at most 4096)
  --kv f16|f32         K/V as stored (default f16)
  --quantise q8|q4     quantise a float checkpoint while loading
  --without f16,subgroups   leave features unused`;

export const RUN_USAGE = `crescendo run --model PATH --prompt TEXT
  --prompt TEXT        what to say; "-" reads standard input
  --system TEXT        what the model is told first
  --raw                continue the text without the chat template
  --max-tokens N       (default 256)    --temperature T  (default 0.7; 0 is greedy)
  --top-k N  --top-p P  --min-p P  --seed N
${COMMON}`;

export const EVAL_USAGE = `crescendo eval --model PATH (--ids ids.json --out out.safetensors | --text FILE)
  --ids FILE           a JSON list of token ids
  --out FILE           logits [ids, vocab] f32, and with --hidden the residuals hidden.0 … hidden.L [ids, hidden]
  --hidden             after the embedding and after each layer; the last one after the final norm
  --text FILE          prints tokens, mean NLL and perplexity of a text (no token put in front)
  --chunk N            rows of a prefill chunk (default 256); 1 runs the decode kernels
${COMMON}`;
