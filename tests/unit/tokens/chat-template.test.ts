// Chat templates compared with Jinja itself, with the variables of transformers.
import { describe, expect, test } from "vitest";
import { LlmError } from "../../../src/errors";
import { type ChatMessage, ChatTemplate } from "../../../src/tokens/chat-template";
import { expectLlmError } from "../../support/expect-llm-error";
import { chatTemplates } from "./golden-tokens";

const NAMES = { bos_token: "<s>", eos_token: "</s>" };
const HI: readonly ChatMessage[] = [{ role: "user", content: "Hi" }];

describe("rendering", () => {
  for (const [name, source] of Object.entries(chatTemplates.templates)) {
    test(`the template "${name}" renders as Jinja renders it`, () => {
      const template = new ChatTemplate(source, NAMES);
      for (const { messages, addGenerationPrompt, text } of chatTemplates.cases.filter((golden) => golden.template === name)) {
        const render = () => template.render(messages, { addGenerationPrompt });
        if (text === null) expect(render).toThrow(LlmError);
        else expect(render()).toBe(text);
      }
    });
  }

  test("the date is written in English, whatever the machine's language", () => {
    const now = () => new Date(2026, 2, 5, 7, 8, 9);
    const template = new ChatTemplate("{{ strftime_now('%d %b %Y|%A, %-d %B|%a %y-%m-%d %H:%M:%S 100%%') }}", NAMES, { now });
    expect(template.render(HI)).toBe("05 Mar 2026|Thursday, 5 March|Thu 26-03-05 07:08:09 100%");
  });
});

describe("errors", () => {
  const rendering = async (source: string) => new ChatTemplate(source, NAMES).render(HI);

  test("messages that the template refuses are the caller's error, with the template's message", () =>
    expectLlmError(rendering("{{ raise_exception('Only system messages, please') }}"), "bad-request", "Only system messages, please"));

  test("a template that is not Jinja is refused with the parser's reason", () =>
    expectLlmError(rendering("{% if %}"), "bad-tokenizer", "chat template"));

  test("a template that uses unknown Jinja is unsupported", async () => {
    await expectLlmError(rendering("{{ messages | no_such_filter }}"), "unsupported", "no_such_filter");
    await expectLlmError(rendering("{{ strftime_now('%U') }}"), "unsupported", "%U");
    await expectLlmError(rendering("{{ range(1, 2, 0) }}"), "unsupported", "step of 0");
  });
});
