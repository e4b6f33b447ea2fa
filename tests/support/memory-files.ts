// A model's files in memory, for tests: as they are, or damaged.
import { Murmur3 } from "../../src/bytes/murmur3";
import type { ModelFiles } from "../../src/repository/model-files";
import { memorySource } from "./memory-source";
import { readTestFile } from "./test-files";

export type FileContents = Readonly<Record<string, Uint8Array | string>>;

export function memoryFiles(contents: FileContents, weightsFile: string | null = null): ModelFiles {
  return {
    name: "test/model",
    weightsFile,
    open: async (name) => {
      const content = contents[name];
      if (content === undefined) return null;
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      return { ...memorySource(bytes, { name }), version: new Murmur3().bytes(bytes).digest() };
    },
  };
}

/** config.json and model.safetensors of a golden case; it has no tokenizer. */
export async function goldenContents(name = "llama-gqa"): Promise<Record<"config.json" | "model.safetensors", Uint8Array>> {
  const read = (file: string) => readTestFile(`tests/golden/${name}/${file}`);
  const [config, weights] = await Promise.all([read("config.json"), read("model.safetensors")]);
  return { "config.json": config, "model.safetensors": weights };
}
