// Renders a conversation with a model's Jinja chat template, which sees the variables that Hugging Face's transformers provides.
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { LlmError } from "../errors";

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
  readonly #specialTokens: Readonly<Record<string, unknown>>;
  readonly #now: () => Date;

  /**
   * @param specialTokens tokens that the template may use by name: `bos_token`, `eos_token`, …
   * @throws LlmError "bad-tokenizer" if the source is not a Jinja template.
   */
  constructor(source: string, specialTokens: Readonly<Record<string, unknown>>, now: () => Date = () => new Date()) {
    this.source = source;
    this.#specialTokens = specialTokens;
    this.#now = now;
    try {
      this.#program = new Template(source).parsed;
    } catch (cause) {
      throw new LlmError("bad-tokenizer", `The chat template cannot be parsed: ${messageOf(cause)}.`, { cause });
    }
  }

  /**
   * @throws LlmError "bad-request" if the template itself refuses the messages (for example two turns of one role in a row), "unsupported" if it
   * uses Jinja that our library does not know.
   */
  render(messages: readonly ChatMessage[], { addGenerationPrompt = true }: RenderOptions = {}): string {
    const environment = new Environment();
    const names = { ...GLOBALS, ...this.#specialTokens, strftime_now: (format: string) => formatTime(this.#now(), format) };
    for (const [name, value] of Object.entries(names)) environment.set(name, value);
    environment.set("messages", messages);
    environment.set("add_generation_prompt", addGenerationPrompt);
    try {
      const text = new Interpreter(environment).run(this.#program).value;
      if (typeof text === "string") return text;
      throw new Error(`it renders as ${typeof text}`);
    } catch (cause) {
      if (cause instanceof LlmError) throw cause;
      throw new LlmError("unsupported", `The chat template cannot be rendered: ${messageOf(cause)}.`, { cause });
    }
  }
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
    throw new LlmError("bad-request", `The model's chat template refuses these messages: ${reason}`);
  },
};

/** Python's range. */
function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (step === 0) throw new Error("range() has a step of 0");
  return Array.from({ length: Math.max(0, Math.ceil((stop - start) / step)) }, (_, index) => start + index * step);
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
        throw new Error(`strftime_now("${format}") has the directive ${directive}`);
    }
  });
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
