// Renders a conversation with a model's Jinja chat template, which sees the variables that Hugging Face's transformers provides.
import { Environment, Template } from "@huggingface/jinja";
import { LlmError } from "../errors";
import { quoted, shortened } from "../quoted";
import { TemplateCosts } from "./template-costs";
import { type TemplateBudget, TemplateInterpreter } from "./template-interpreter";

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

export interface RenderOptions {
  /** Ends the prompt with the opening of the model's answer. Default true. */
  readonly addGenerationPrompt?: boolean;
}

export class ChatTemplate {
  readonly source: string;
  readonly #program: Template["parsed"];
  readonly #costs: TemplateCosts;
  readonly #specialTokens: Readonly<Record<string, unknown>>;
  readonly #now: () => Date;
  readonly #where: string;

  /**
   * @param specialTokens tokens that the template may use by name: `bos_token`, `eos_token`, …
   * @throws LlmError "bad-tokenizer" if the source is not a Jinja template.
   */
  constructor(source: string, specialTokens: Readonly<Record<string, unknown>>, { now = () => new Date(), where }: TemplateOptions = {}) {
    this.source = source;
    this.#specialTokens = specialTokens;
    this.#now = now;
    this.#where = where === undefined ? "The chat template" : `The chat template (${where})`;
    const lines = source.replace(/\r\n?/g, "\n"); // as Jinja reads them
    const reason = source.length > MAX_SOURCE ? `has ${source.length} characters, expected at most ${MAX_SOURCE}` : longBlank(lines);
    if (reason !== null) throw new LlmError("bad-tokenizer", `${this.#where} ${reason}.`);
    try {
      this.#program = new Template(lines).parsed;
      this.#costs = new TemplateCosts(this.#program);
    } catch (cause) {
      throw new LlmError("bad-tokenizer", `${this.#where} cannot be parsed: ${messageOf(cause)}.`, { cause });
    }
  }

  /**
   * @throws LlmError "bad-request" if the template itself refuses the messages (for example two turns of one role in a row), "unsupported" if it
   * uses Jinja that our library does not know, or takes more time or text than any template should.
   */
  render(messages: readonly ChatMessage[], { addGenerationPrompt = true }: RenderOptions = {}): string {
    const environment = new Environment();
    const names = { ...GLOBALS, ...this.#specialTokens, strftime_now: (format: string) => formatTime(this.#now(), format) };
    for (const [name, value] of Object.entries(names)) environment.set(name, value);
    environment.set("messages", messages);
    environment.set("add_generation_prompt", addGenerationPrompt);
    try {
      const text = new TemplateInterpreter(environment, this.#costs, budgetFor(messages)).render(this.#program);
      if (typeof text === "string") return text;
      throw new Error(`it renders as ${typeof text}`);
    } catch (cause) {
      if (cause instanceof LlmError) throw cause;
      throw new LlmError("unsupported", `${this.#where} cannot be rendered: ${messageOf(cause)}.`, { cause });
    }
  }
}

export interface TemplateOptions {
  readonly now?: () => Date;
  /** Where the template is from, for messages. */
  readonly where?: string;
}

const MAX_RANGE = 100_000; // as in Jinja's own sandbox
const MAX_SOURCE = 250_000; // characters; the largest in use has some 20,000
// The library's parser takes the square of a run of white space; real templates have runs of some dozens.
const MAX_BLANK = 500;

function longBlank(source: string): string | null {
  const isLong = new RegExp(`\\s{${MAX_BLANK + 1}}`).test(source);
  return isLong ? `has more than ${MAX_BLANK} blank characters in a row` : null;
}

// Half a second or so; the costliest template measured takes 600 steps a message.
const STEPS = 500_000;
const STEPS_A_MESSAGE = 5_000;
const CHARACTERS = 16_000_000;
const COPIES = 20;

/** More for longer conversations: templates walk the messages several times, and write each once or twice. */
function budgetFor(messages: readonly ChatMessage[]): TemplateBudget {
  const length = messages.reduce((sum, { content }) => sum + (typeof content === "string" ? content.length : 0), 0);
  return { steps: STEPS + messages.length * STEPS_A_MESSAGE, characters: CHARACTERS + COPIES * length };
}

const GLOBALS = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  tools: null,
  documents: null,
  range,
  raise_exception: (reason: string) => {
    throw new LlmError("bad-request", `The model's chat template refuses these messages: ${shortened(String(reason))}`);
  },
};

/** Python's range. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (step === 0) throw new Error("range() has a step of 0");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Error(`range() has ${length} numbers, expected at most ${MAX_RANGE}`);
  return Array.from({ length }, (_, index) => start + index * step);
}

/** Python's strftime, always in English as in training, not in the visitor's language. */
function formatTime(date: Date, format: string): string {
  const part = (options: Intl.DateTimeFormatOptions) => new Intl.DateTimeFormat("en-US", options).format(date);
  const twoDigits = (value: number) => String(value).padStart(2, "0");
  return format.replace(/%(-?.)/g, (directive, name: string) => {
    switch (name) {
      case "Y":
        return String(date.getFullYear());
      case "y":
        return twoDigits(date.getFullYear() % 100);
      case "m":
        return twoDigits(date.getMonth() + 1);
      case "d":
        return twoDigits(date.getDate());
      case "-d":
        return String(date.getDate());
      case "B":
        return part({ month: "long" });
      case "b":
        return part({ month: "short" });
      case "A":
        return part({ weekday: "long" });
      case "a":
        return part({ weekday: "short" });
      case "H":
        return twoDigits(date.getHours());
      case "M":
        return twoDigits(date.getMinutes());
      case "S":
        return twoDigits(date.getSeconds());
      case "%":
        return "%";
      default:
        throw new Error(`strftime_now(${quoted(format)}) has the directive ${directive}`);
    }
  });
}

function messageOf(cause: unknown): string {
  return shortened(cause instanceof Error ? cause.message : String(cause));
}
