// All supported families. To add one, write its file and name it here.
import { falcon } from "./falcon";
import type { Family } from "./family";
import { llama } from "./llama";
import { mistral } from "./mistral";
import { qwen2 } from "./qwen2";

export const FAMILIES: ReadonlyMap<string, Family> = new Map([falcon, llama, mistral, qwen2].map((family) => [family.name, family]));
