// Whatever is wrong with a model's files, the load says what and where, leaves nothing on the device, and the next one works.
import { describe, test } from "vitest";
import type { LlmErrorCode } from "../../src/index";
import { FailingLoads } from "../support/failing-loads";
import { type GgufSpec, ggufBytes } from "../support/gguf-bytes";
import { type FileContents, memoryFiles } from "../support/memory-files";

const loads = new FailingLoads();
const WEIGHTS = "model.safetensors";
const NORM = "model.layers.1.input_layernorm.weight";
const KEY = "model.layers.1.self_attn.k_proj.weight";

interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The weights' file, after `damage` to a copy of its bytes, which may return others. */
function withWeights(damage: (bytes: Uint8Array) => Uint8Array): FileContents {
  return { [WEIGHTS]: damage(loads.contents[WEIGHTS].slice()) };
}

/** The weights' file with another header before the same data. */
function withHeader(edit: (header: Record<string, HeaderEntry>) => unknown): FileContents {
  return withWeights((bytes) => {
    const dataStart = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, dataStart)));
    edit(header);
    const text = new TextEncoder().encode(JSON.stringify(header));
    const whole = new Uint8Array(8 + text.length + bytes.length - dataStart);
    new DataView(whole.buffer).setBigUint64(0, BigInt(text.length), true);
    whole.set(text, 8);
    whole.set(bytes.subarray(dataStart), 8 + text.length);
    return whole;
  });
}

function withEntry(name: string, changes: (entry: HeaderEntry) => Partial<HeaderEntry>): FileContents {
  return withHeader((header) => {
    const entry = header[name];
    if (!entry) throw new Error(`the golden case has no ${name}`);
    Object.assign(entry, changes(entry));
  });
}

function withConfig(changes: object): FileContents {
  return { "config.json": JSON.stringify({ ...JSON.parse(new TextDecoder().decode(loads.contents["config.json"])), ...changes }) };
}

describe("a repository with", () => {
  function refused(what: string, files: () => FileContents, code: LlmErrorCode, ...words: readonly string[]): void {
    test(`${what} is refused`, () => loads.expectFailure(loads.load(memoryFiles({ ...loads.contents, ...files() })), code, ...words));
  }

  refused("a header that is cut", () => withWeights((bytes) => bytes.slice(0, 300)), "bytes-truncated", WEIGHTS);
  refused("weights that are cut", () => withWeights((bytes) => bytes.slice(0, -1)), "bytes-truncated", WEIGHTS);
  refused("a header that lies about its length", () => withWeights((bytes) => bytes.fill(0xff, 0, 7)), "bad-file", WEIGHTS);
  refused(
    "a tensor outside the file",
    () => withEntry(NORM, ({ data_offsets: [start, end] }) => ({ data_offsets: [start + 2 ** 40, end + 2 ** 40] })),
    "bad-file",
    WEIGHTS,
    "gap",
  );
  refused(
    "a tensor that overlaps another",
    () => withEntry(NORM, ({ data_offsets: [start, end] }) => ({ data_offsets: [start - 4, end - 4] })),
    "bad-file",
    NORM,
  );
  refused("a type that nobody knows", () => withEntry(NORM, () => ({ dtype: "Q3" })), "unsupported", NORM, "Q3");
  refused("a shape that its length contradicts", () => withEntry(KEY, () => ({ shape: [1, 2] })), "bad-file", KEY);
  refused(
    "a shape that its configuration contradicts",
    () => withEntry(KEY, ({ shape }) => ({ shape: shape.reverse() })),
    "bad-weights",
    KEY,
  );
  refused("a tensor left out", () => withHeader((header) => delete header[KEY]), "bad-file", WEIGHTS, "gap");
  refused("a layer too few", () => withConfig({ num_hidden_layers: 7 }), "bad-weights", "model.layers.6.");
  refused("a layer too many", () => withConfig({ num_hidden_layers: 5 }), "unsupported", "model.layers.5.");
  refused("a weight that is no number", () => withWeights((bytes) => bytes.fill(0xff, -8)), "bad-weights", "finite");
  refused("an unknown architecture", () => withConfig({ architectures: ["MambaForCausalLM"], model_type: "mamba" }), "unsupported", "amba");
  refused("a configuration without a size", () => withConfig({ hidden_size: undefined }), "bad-config", "hidden_size");
  refused("a configuration that is no JSON", () => ({ "config.json": "{" }), "bad-file", "config.json");

  test("no tokenizer is refused", () =>
    loads.expectFailure(loads.loadIntact({ needsTokenizer: true }), "bad-tokenizer", "no tokenizer.json", "use a GGUF"));
});

describe("a GGUF with", () => {
  const metadata = [["general.architecture", { type: "string", value: "llama" }]] as const;
  const tensor = { name: "token_embd.weight", type: 0, dimensions: [4, 4], offset: 0 };
  const valid: GgufSpec = { metadata, tensors: [tensor], dataBytes: 64 };

  function refused(what: string, bytes: Uint8Array, code: LlmErrorCode, ...words: readonly string[]): void {
    test(`${what} is refused`, () => loads.expectFailure(loads.load(memoryFiles({ "m.gguf": bytes }, "m.gguf")), code, ...words));
  }

  refused("no magic", ggufBytes({ ...valid, magic: "GGML" }), "bad-file", "m.gguf");
  refused("a header that is cut", ggufBytes({ metadata }).slice(0, 40), "bytes-truncated", "m.gguf");
  refused("a header that lies about its tensors", ggufBytes({ ...valid, statedTensorCount: 2n ** 40n }), "bad-file", "tensor count");
  refused(
    "a tensor outside the file",
    ggufBytes({ ...valid, tensors: [{ ...tensor, offset: 2n ** 40n }] }),
    "bytes-truncated",
    tensor.name,
  );
  refused("an unknown type", ggufBytes({ ...valid, tensors: [{ ...tensor, type: 99 }] }), "unsupported", tensor.name, "99");
  refused(
    "an unknown architecture",
    ggufBytes({ ...valid, metadata: [["general.architecture", { type: "string", value: "mamba" }]] }),
    "unsupported",
    "mamba",
  );
  refused("a configuration without a size", ggufBytes(valid), "bad-config", "llama.");
});
