// Checks what a caller asks for before anything is computed. Callers without types get an error that names the option and the form that it takes.
import { LlmError } from "../errors";
import type { SamplingSettings } from "../steps/sampling-settings";
import { quote } from "./quote";

type OptionForm = "number" | "whole" | "map" | "texts" | "ids" | "signal" | "text" | "messages";

/** The options that a call takes, and the form of each. */
export type OptionForms<T> = Readonly<Record<keyof Required<T>, OptionForm>>;

export const SAMPLING_FORMS: OptionForms<SamplingSettings> = {
  temperature: "number",
  topK: "number",
  topP: "number",
  minP: "number",
  repetitionPenalty: "number",
  presencePenalty: "number",
  frequencyPenalty: "number",
  logitBias: "map",
  seed: "number",
};

const ROLES: readonly unknown[] = ["system", "user", "assistant", "tool"];

const FORMS: Readonly<Record<OptionForm, readonly [expected: string, holds: (value: unknown) => boolean]>> = {
  number: ["a number", (value) => typeof value === "number"],
  whole: ["a whole number, 0 or more", (value) => value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && Number(value) >= 0)],
  map: ["a Map from token ids to numbers", (value) => value instanceof Map],
  texts: ["a text or a list of texts", (value) => [value].flat().every((each) => typeof each === "string")],
  ids: ["a list of token ids", isIdList],
  signal: ["an AbortSignal (the controller's `signal`)", isSignal],
  text: ["a text", (value) => typeof value === "string"],
  messages: ["a list of messages: [{ role, content }]", Array.isArray],
};

/**
 * @param what takes the options, for messages: "send".
 * @throws LlmError "bad-request" for an option that `what` does not have, or in another form than it takes. Undefined is as good as absent.
 */
export function checkOptions<T>(options: T, forms: OptionForms<T>, what: string): void {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new LlmError("bad-request", `The options of ${what} are ${quote(options)}; expected an object with ${names(forms)}.`);
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(forms, name)) throw unknownOption(name, forms, what);
    const [expected, holds] = FORMS[forms[name as keyof T]];
    if (!holds(value)) throw new LlmError("bad-request", `${name} is ${quote(value)}; expected ${expected}.`);
  }
}

/** @throws LlmError "bad-request" where `value` is something else, a list of messages say. `hint` names the way to do what was meant. */
export function checkText(value: unknown, name: string, hint: string): asserts value is string {
  if (typeof value !== "string") throw new LlmError("bad-request", `${name} is ${quote(value)}; expected a text. ${hint}`);
}

/** @throws LlmError "bad-request" naming the first message that is none. */
export function checkMessages(messages: readonly unknown[]): void {
  for (const [index, message] of messages.entries()) {
    const fault = messageFault(message);
    if (fault !== null) throw new LlmError("bad-request", `Message ${index}: ${fault}.`);
  }
}

/** What is wrong with a message, or null. */
export function messageFault(message: unknown): string | null {
  if (typeof message !== "object" || message === null) return `${quote(message)}, expected { role, content }`;
  const { role, content } = message as Readonly<Record<string, unknown>>;
  if (!ROLES.includes(role)) return `its role is ${quote(role)}, expected ${ROLES.join(", ")}`;
  return typeof content === "string" ? null : `its content is ${quote(content)}, expected a text`;
}

function isSignal(value: unknown): boolean {
  return typeof value === "object" && value !== null && "aborted" in value && "addEventListener" in value;
}

function isIdList(value: unknown): boolean {
  return Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 32);
}

// What other libraries call the same, letters only.
const OTHER_NAMES: Readonly<Record<string, string>> = {
  maxnewtokens: "maxTokens",
  maxcompletiontokens: "maxTokens",
  npredict: "maxTokens",
  stopstrings: "stop",
  stopsequences: "stop",
  stoptokenids: "stopIds",
  repeatpenalty: "repetitionPenalty",
  abortsignal: "signal",
  systemprompt: "system",
};

function unknownOption(name: string, forms: object, what: string): LlmError {
  const letters = plain(name);
  const meant = Object.keys(forms).find((known) => plain(known) === letters || OTHER_NAMES[letters] === known);
  const advice = meant === undefined ? `Its options are ${names(forms)}.` : `Did you mean ${meant}?`;
  return new LlmError("bad-request", `${what} has no option ${quote(name)}. ${advice}`);
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[^a-z]/g, "");
}

function names(forms: object): string {
  return Object.keys(forms).join(", ");
}
