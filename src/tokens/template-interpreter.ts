// Runs a parsed chat template under a budget. Does by itself what the library does otherwise than Jinja in silence, or not at all: strip and trim
// with an argument, trim of what is undefined, min and max.
import { Interpreter } from "@huggingface/jinja";
import {
  type AnyNode,
  type TemplateCosts,
  type TemplateNode,
  type TemplateProgram,
  TemplateTooCostly,
  type TemplateValue,
} from "./template-costs";

type Scope = Parameters<Interpreter["evaluate"]>[1];

/** What one rendering may take. */
export interface TemplateBudget {
  /** As template-costs.ts counts them. */
  readonly steps: number;
  /** Of any text, and so of the prompt. */
  readonly characters: number;
}

export class TemplateInterpreter extends Interpreter {
  readonly #costs: TemplateCosts;
  readonly #budget: TemplateBudget;
  #stepsLeft: number;

  constructor(scope: Scope, costs: TemplateCosts, budget: TemplateBudget) {
    super(scope);
    this.#costs = costs;
    this.#budget = budget;
    this.#stepsLeft = budget.steps;
  }

  /** @throws TemplateTooCostly, and the library's errors. */
  render(program: TemplateProgram): unknown {
    return this.run(program).value;
  }

  override evaluate(statement: TemplateNode | undefined, scope: Scope): TemplateValue {
    if (statement === undefined) return super.evaluate(statement, scope);
    const node = statement as AnyNode;
    const value = this.#strip(node, scope) ?? this.#extreme(node, scope) ?? super.evaluate(node, scope);
    const { steps, characters } = this.#budget;
    if (typeof value.value === "string" && value.value.length > characters) {
      throw new TemplateTooCostly(`it makes a text of more than ${characters} characters`);
    }
    this.#stepsLeft -= this.#costs.of(node, value, this.#stepsLeft);
    if (this.#stepsLeft < 0) throw new TemplateTooCostly(`it takes more than ${steps} steps`);
    return value;
  }

  /** `text.strip(characters)` and its kin, and `text | trim(characters)`; null for anything else. */
  #strip(node: AnyNode, scope: Scope): TemplateValue | null {
    const call = strippingCall(node);
    if (call === null) return null;
    const { value, type } = this.evaluate(call.text, scope);
    const text = call.isFilter && type === "UndefinedValue" ? "" : value;
    if (typeof text !== "string" || call.args.length > 1) return null;
    const [argument] = call.args;
    const named = argument?.type === "KeywordArgumentExpression" ? (argument.value as AnyNode) : argument;
    const characters = named && this.evaluate(named, scope).value;
    if (characters !== undefined && characters !== null && typeof characters !== "string") {
      throw new Error(`${call.name}() takes characters to strip`);
    }
    // The library exports no class of its values.
    const literal = { type: "StringLiteral", value: stripped(text, call.name, characters ?? null) };
    return super.evaluate(literal as unknown as TemplateNode, scope);
  }

  /** `numbers | min` and `numbers | max`; null for anything else. */
  #extreme({ type, operand, filter }: AnyNode, scope: Scope): TemplateValue | null {
    if (type !== "FilterExpression" || !operand || filter?.type !== "Identifier") return null;
    if (filter.value !== "min" && filter.value !== "max") return null;
    const items: unknown = this.evaluate(operand, scope).value;
    if (!Array.isArray(items)) return null;
    const sign = filter.value === "min" ? 1 : -1;
    const [first, ...others] = items as TemplateValue[];
    return others.reduce((best, item) => (sign * Number(item.value) < sign * Number(best?.value) ? item : best), first) ?? null;
  }
}

interface StrippingCall {
  readonly name: string;
  readonly isFilter: boolean;
  readonly text: AnyNode;
  readonly args: readonly AnyNode[];
}

const STRIPS = ["strip", "lstrip", "rstrip"];

function strippingCall({ type, callee, args = [], operand, filter }: AnyNode): StrippingCall | null {
  if (type === "CallExpression" && callee?.type === "MemberExpression" && !callee.computed && callee.object) {
    const name = String(callee.property?.value);
    return STRIPS.includes(name) ? { name, isFilter: false, text: callee.object, args } : null;
  }
  if (type !== "FilterExpression" || !operand || !filter) return null;
  const name = filter.type === "CallExpression" ? filter.callee?.value : filter.value;
  return name === "trim" ? { name: "strip", isFilter: true, text: operand, args: filter.args ?? [] } : null;
}

// Python's white space: JavaScript's trim takes U+FEFF as well, and leaves the separators and U+0085.
const WHITE_SPACE = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);

/** Python's strip, lstrip or rstrip: of white space, or of any of `characters`. */
export function stripped(text: string, name: string, characters: string | null): string {
  const taken = characters === null ? WHITE_SPACE : new Set(characters);
  let start = 0;
  let end = text.length;
  if (name !== "rstrip") {
    for (let first = characterAt(text, 0); taken.has(first); first = characterAt(text, start)) start += first.length;
  }
  if (name !== "lstrip") {
    for (let last = characterBefore(text, end); end > start && taken.has(last); last = characterBefore(text, end)) end -= last.length;
  }
  return text.slice(start, end);
}

function characterAt(text: string, at: number): string {
  const code = text.codePointAt(at);
  return code === undefined ? "" : String.fromCodePoint(code);
}

function characterBefore(text: string, end: number): string {
  const pair = characterAt(text, end - 2);
  return pair.length === 2 ? pair : text.slice(Math.max(0, end - 1), end);
}
