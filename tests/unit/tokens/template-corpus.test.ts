// Chat templates of published models, each with conversations and the text that Jinja with transformers' variables made of them.
import { beforeAll, describe, expect, test } from "vitest";
import { type ChatMessage, ChatTemplate } from "../../../src/tokens/chat-template";
import { needsFiles } from "../../support/needed-files";
import { readTestFile, readTestJson } from "../../support/test-files";

interface CorpusCase {
  readonly template: string;
  readonly name: string;
  readonly vars: Readonly<Record<string, unknown>> & { readonly messages: readonly ChatMessage[]; readonly add_generation_prompt: boolean };
  /** Absent where the template refuses the messages, or fails on them. */
  readonly want?: string;
}

const FOLDER = "../shared/golden2/templates";
const CASES = `${FOLDER}/cases.json`;
const RECORDED = new Date(2026, 10, 30, 12, 0, 0); // what the templates took for today

describe("templates of published models", await needsFiles(CASES), () => {
  let cases: readonly CorpusCase[];
  beforeAll(async () => {
    cases = await readTestJson(CASES);
  });

  test("render every conversation as Jinja does", async () => {
    expect(cases.length).toBeGreaterThan(200);
    const wrong: string[] = [];
    for (const template of new Set(cases.map((each) => each.template))) {
      const source = new TextDecoder().decode(await readTestFile(`${FOLDER}/${template}`));
      for (const { name, vars, want = null } of cases.filter((each) => each.template === template)) {
        const { messages, add_generation_prompt: addGenerationPrompt, ...names } = vars;
        let text: string | null;
        try {
          text = new ChatTemplate(source, names, { now: () => RECORDED }).render(messages, { addGenerationPrompt });
        } catch (error) {
          text = want === null ? null : String(error);
        }
        if (text !== want) wrong.push(`${template}, ${name}:\n  ${JSON.stringify(text)}\n  ${JSON.stringify(want)}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});
