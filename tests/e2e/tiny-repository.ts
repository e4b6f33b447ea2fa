// A model repository of seven hundred kilobytes: a golden case's random weights with a tokenizer of our making. It says nothing
// sensible, but everything that a real one does happens to it, fast.
import { readFileSync } from "node:fs";

const CASE = "tests/golden/llama-gqa";
const VOCAB_SIZE = 512; // the case's
const SPECIAL = ["<unk>", "<begin>", "<end>"]; // its ids 0, 1, 2; none that ends an answer, so that each runs to its limit

export interface RepositoryFile {
  readonly name: string;
  readonly mimeType: string;
  readonly buffer: Buffer;
}

/** @param hasTemplate False: a model that continues texts and knows no chats. */
export function tinyRepository({ hasTemplate = true }: { readonly hasTemplate?: boolean } = {}): RepositoryFile[] {
  const template =
    "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  const config = hasTemplate ? { chat_template: template } : {};
  return [
    file("config.json", Buffer.from(JSON.stringify({ ...JSON.parse(readFileSync(`${CASE}/config.json`, "utf8")), eos_token_id: null }))),
    file("model.safetensors", readFileSync(`${CASE}/model.safetensors`)),
    file("tokenizer.json", Buffer.from(JSON.stringify(tokenizerJson()))),
    file("tokenizer_config.json", Buffer.from(JSON.stringify(config))),
  ];
}

function file(name: string, buffer: Buffer): RepositoryFile {
  return { name, mimeType: "application/octet-stream", buffer };
}

/** Byte-level pairs: all bytes, then pairs of letters until every row of the model has a text. */
function tokenizerJson(): object {
  const letters = [..."abcdefghijklmnopqrst"];
  const pairs = letters.flatMap((first) => letters.map((second) => [first, second] as const));
  const merges = pairs.slice(0, VOCAB_SIZE - SPECIAL.length - 256);
  const tokens = [...SPECIAL, ...byteCharacters(), ...merges.map((pair) => pair.join(""))];
  return {
    added_tokens: SPECIAL.map((content, id) => ({ id, content, special: true })),
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  };
}

/** The printable character that stands for each byte in byte-level vocabularies (GPT-2's table). */
function byteCharacters(): string[] {
  const isPrintable = (byte: number) => (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : 256 + others++));
}
