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

describe("what Jinja does and the library did otherwise", () => {
  const render = (source: string, content = "Hi") => new ChatTemplate(source, NAMES).render([{ role: "user", content }]);

  test("Windows' and old Macs' line ends are line ends, and the one after a block goes", () => {
    for (const end of ["\n", "\r\n", "\r"]) {
      expect(render(["{% for m in messages %}", "{{ m.role }}", "{{ m.content }}!", "{% endfor %}", "end", ""].join(end))).toBe(
        "user\nHi!\nend",
      );
    }
    expect(render("{{ messages[0].content }}", "a\r\nb")).toBe("a\r\nb"); // a message keeps its own
  });

  test("strip, lstrip, rstrip and trim take characters", () => {
    expect(render(String.raw`[{{ messages[0].content.lstrip("\n") }}]`, "\n\n  a")).toBe("[  a]");
    expect(render(String.raw`[{{ messages[0].content.rstrip('\n!') }}]`, "a !\n!")).toBe("[a ]");
    expect(render("[{{ messages[0].content.strip('🙂x') }}]", "x🙂 b 🙂🙂x")).toBe("[ b ]");
    expect(render("[{{ messages[0].content | trim('-') }}]", "--a--")).toBe("[a]");
    expect(render("[{{ ('x' ~ messages[0].content).strip('x').strip() }}]", " a xx")).toBe("[a]");
    expect(render("[{{ messages[0].content.strip(none) }}|{{ nothing | trim }}]", " a ")).toBe("[a|]");
  });

  test("white space is Python's", () => {
    expect(render("{{ messages[0].content.strip() | length }}", "\u{FEFF}a\x1c\x85")).toBe("2");
    expect(render("{{ messages[0].content | trim | length }}", "\u3000a\u2028")).toBe("1");
  });
});

describe("a template that would take too long", () => {
  const long = [{ role: "user", content: "Hi ".repeat(2000) }] as const;

  test.each([
    ["a long range", "{{ range(12000000) | length }}"],
    ["a range without end", "{{ range(-1, 10000000000, 1) | length }}"],
    ["loops in loops", "{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}"],
    ["empty loops", "{% for i in range(900) %}{% for j in range(900) %}{% endfor %}{% endfor %}"],
    ["a loop that keeps nothing", "{% for i in range(900) %}{% for j in range(900) if false %}{% endfor %}{% endfor %}"],
    ["sorting", "{% set r = range(3000) %}{% for i in r %}{% set x = r | sort %}{% endfor %}"],
    ["JSON", "{% set r = range(3000) %}{% for i in r %}{% set x = r | tojson %}{% endfor %}"],
    ["lists in lists", "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}"],
    ["a text doubled", "{% set ns = namespace(s='abcd') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"],
    ["a long output", "{% for i in range(9000) %}{{ messages[0].content }}{% endfor %}"],
    ["splitting", "{% for i in range(9000) %}{% set x = messages[0].content.split('i') %}{% endfor %}"],
    ["a wide indentation", "{{ ('a\\n' ~ 'b') | indent(width=400000000) }}"],
    ["wide JSON", "{{ messages | tojson(indent=300000000) }}"],
    ["a macro that calls itself", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}"],
  ])("ends in an error that names the template: %s", (_, source) => {
    const start = performance.now();
    const render = () => new ChatTemplate(source, NAMES, { where: "chat_template.jinja" }).render(long);
    expect(render).toThrow(/^The chat template \(chat_template.jinja\) cannot be rendered: /);
    expect(render).toThrow(LlmError);
    expect(performance.now() - start).toBeLessThan(10_000); // twice half a second; without budgets the shortest takes minutes
  });

  test.each([
    ["blank", " ".repeat(100_000)],
    ["long", "x".repeat(1_000_000)],
    ["nested", `{{ ${"(".repeat(50_000)}1${")".repeat(50_000)} }}`],
  ])("is refused unread where its source is too %s", (_, source) => {
    expect(() => new ChatTemplate(source, NAMES)).toThrow(LlmError);
  });

  test("is not one that walks a long conversation several times", () => {
    const messages = Array.from({ length: 2000 }, (_, at) => ({ role: at % 2 ? "assistant" : "user", content: `message ${at}` }) as const);
    const walk =
      "{% for m in messages %}{% if m.role == 'user' and messages[loop.index0].content %}{{ m.content | trim }}{% endif %}{% endfor %}";
    expect(new ChatTemplate(walk.repeat(5), NAMES).render(messages)).toContain("message 1998");
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
