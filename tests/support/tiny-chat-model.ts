// A chat model of seven hundred kilobytes: a golden case's random weights and a vocabulary of our making, in which every token is
// plain text. It says nothing sensible, but everything that a real one does happens to it, fast.
import type { ModelFiles } from "../../src/repository/model-files";
import { goldenContents, memoryFiles } from "./memory-files";

const VOCAB_SIZE = 512; // the case's rows
const SPECIAL = ["<unk>", "<begin>", "<end>"];

/** The id of the token that ends an answer. */
export const END_ID = 2;
export const SPECIAL_IDS = [0, 1, 2];

const TEMPLATE =
  "{% for m in messages %}{% if m.content == 'refuse' %}{{ raise_exception('no') }}{% endif %}" +
  "<begin>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<begin>assistant\n{% endif %}";

/** What TEMPLATE writes after an answer, for the next message. */
export function textAfterAnswer(message: string): string {
  return `<end>\n<begin>user\n${message}<end>\n<begin>assistant\n`;
}

/** A template like TEMPLATE that writes earlier answers in capitals. */
export const REWRITING_TEMPLATE = TEMPLATE.replace("{{ m.content }}", "{{ m.content | upper if m.role == 'assistant' else m.content }}");

/** A template like TEMPLATE that refuses two messages of one role in a row, as Gemma's and Mistral's do. */
export const ALTERNATING_TEMPLATE =
  "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}" +
  "<begin>{{ m.role }}\n{{ m.content }}<end>\n{% endfor %}{% if add_generation_prompt %}<begin>assistant\n{% endif %}";

export async function tinyChatFiles(template = TEMPLATE): Promise<ModelFiles> {
  return memoryFiles({
    ...(await goldenContents()),
    "tokenizer.json": JSON.stringify(tokenizerJson()),
    "tokenizer_config.json": JSON.stringify({ chat_template: template, eos_token: "<end>" }),
  });
}

/** Byte pairs: the line break, ASCII's printable characters, then pairs of letters until every row of the model has a text. */
function tokenizerJson(): object {
  const characters = ["Ċ", "Ġ", ...Array.from({ length: 94 }, (_, index) => String.fromCodePoint(33 + index))];
  const letters = [..."abcdefghijklmnopqrstu"];
  const merges = letters
    .flatMap((first) => letters.map((second) => [first, second]))
    .slice(0, VOCAB_SIZE - SPECIAL.length - characters.length);
  const tokens = [...SPECIAL, ...characters, ...merges.map((pair) => pair.join(""))];
  return {
    added_tokens: SPECIAL.map((content, id) => ({ id, content, special: true })),
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  };
}
