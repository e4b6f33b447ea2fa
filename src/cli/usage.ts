// The help texts of the commands.

export class UsageError extends Error {}

const COMMON = `  --model PATH         a .gguf, or a folder with config.json, tokenizer.json and safetensors
  --context N          positions (default: as needed, or the model's, at most 4096)
  --kv f16|f32         format of K/V (default f16)
  --quantise q8|q4     quantise a float checkpoint while loading
  --without f16,subgroups,subgroup-matrix   leave features unused`;

const PLANS = `auto: the model's progressive.json, otherwise derived from its sizes; default: always derived from its sizes;
                       whole: all at once; or the path of a plan (docs/progressive-plans.md)`;

export const RUN_USAGE = `crescendo run --model PATH --prompt TEXT
  --prompt TEXT        the prompt; "-" reads standard input
  --system TEXT        the system prompt
  --raw                continue the text without the chat template
  --max-tokens N       (default 256)    --temperature T  (default 0.7; 0 is greedy)
  --top-k N  --top-p P  --min-p P  --seed N
  --plan PLAN          the stages in which the model loads (default auto); a line says when the next one takes over
                       ${PLANS}
${COMMON}`;

export const EVAL_USAGE = `crescendo eval --model PATH (--ids ids.json | --text FILE) [--out out.safetensors] [--against other.safetensors]
  --ids FILE           a JSON list of token ids
  --text FILE          prints tokens, mean NLL and perplexity of a text (no token is added in front)
  --out FILE           logits [ids, vocab] f32, and with --hidden the residuals hidden.0 … hidden.L [ids, hidden]
  --hidden             residuals after the embedding and after each layer; the last one after the final norm
  --against FILE       compares the logits with an --out file of the same ids: KL(file‖this) in nats a token, share of the same first
                       choice, largest |Δlogit|
  --chunk N            rows of a prefill chunk (default 256); 1 runs the decode kernels
  --plan PLAN          the stages of the model (default whole)
                       ${PLANS}
  --stage NAME         evaluate at this stage of the plan (default: the last one, which is the whole model)
  --upgrade S@N[,T@M…] start at the plan's first stage, upgrade to S in place after N ids, then to T after M; events go to standard
                       error, and each stage that answers gets its own line
  --policy P           blocking (default: the new stage takes over at exactly N, so two runs are the same), background (when its K/V
                       is rebuilt, between later chunks), turn-boundary (after all ids)
  --carry C            K/V below the boundary: keep (default), restore from a snapshot, recompute
${COMMON}`;
