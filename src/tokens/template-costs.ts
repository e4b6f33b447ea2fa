// What each part of a chat template's rendering costs, in steps of about a microsecond.
import type { Interpreter, Template } from "@huggingface/jinja";

export type TemplateNode = NonNullable<Parameters<Interpreter["evaluate"]>[0]>;
export type TemplateValue = ReturnType<Interpreter["evaluate"]>;
export type TemplateProgram = Template["parsed"];

/** The library's nodes by their fields: it exports no classes for them. */
export interface AnyNode extends TemplateNode {
  readonly iterable?: AnyNode;
  readonly lhs?: AnyNode;
  readonly left?: AnyNode;
  readonly right?: AnyNode;
  readonly callee?: AnyNode;
  readonly args?: readonly AnyNode[];
  readonly object?: AnyNode;
  readonly property?: AnyNode;
  readonly computed?: boolean;
  readonly operand?: AnyNode;
  readonly filter?: AnyNode;
  readonly value?: unknown;
}

/** What is done with a node's value, where that costs more than a look at it: a loop over it, a walk through it, JSON of it, or an indentation by it. */
type Use = "looped" | "walked" | "written" | "width";

/** The template takes more than its budget. */
export class TemplateTooCostly extends Error {}

const MAX_WIDTH = 1000; // of an indentation
const LOOP_STEPS = 10; // the library makes two scopes and a table of nine entries for each round
const MAX_PARTS = 1_000_000; // of a list in lists

export class TemplateCosts {
  readonly #uses = new WeakMap<TemplateNode, Use>();
  readonly #parts = new WeakMap<readonly unknown[], number>();

  constructor(program: TemplateProgram) {
    const left: unknown[] = [program];
    while (left.length > 0) {
      const node = left.pop();
      if (Array.isArray(node)) left.push(...node);
      else if (node instanceof Map) left.push(...node.keys(), ...node.values());
      else if (typeof node === "object" && node !== null) {
        this.#markUses(node as AnyNode);
        left.push(...Object.values(node));
      }
    }
  }

  #markUses({ type, iterable, left, right, callee, args = [], object, property, operand, filter }: AnyNode): void {
    const mark = (node: AnyNode | undefined, use: Use) => {
      if (node) this.#uses.set(node, use);
    };
    if (type === "For") mark((iterable?.type === "SelectExpression" && iterable.lhs) || iterable, "looped");
    const filterName = String(filter?.type === "CallExpression" ? filter.callee?.value : filter?.value);
    mark(operand, ["tojson", "string"].includes(filterName) ? "written" : "walked");
    mark(left, "walked");
    mark(right, "walked");
    if (property?.type === "SliceExpression") mark(object, "walked");
    if (type !== "CallExpression") return;
    if (callee?.type === "MemberExpression") mark(callee.object, "walked");
    const use = ["indent", "tojson"].includes(String(callee?.value)) ? "width" : "walked";
    for (const argument of args) mark(argument.type === "KeywordArgumentExpression" ? (argument.value as AnyNode) : argument, use);
  }

  /** The steps that `value`, of `node`, takes. @throws TemplateTooCostly beyond `most`, or for what no template needs. */
  of(node: TemplateNode, { value }: TemplateValue, most: number): number {
    const use = this.#uses.get(node);
    if (typeof value === "string") return 1 + Math.floor(value.length / (use === "walked" || use === "written" ? 64 : 1024));
    if (typeof value === "number" && value > MAX_WIDTH && use === "width") {
      throw new TemplateTooCostly(`it indents by ${value}, expected at most ${MAX_WIDTH}`);
    }
    if (use === "written") return countAll(value, most);
    if (!Array.isArray(value)) return 1;
    const parts = this.#partsOf(value);
    if (parts > MAX_PARTS) throw new TemplateTooCostly(`it makes a list of more than ${MAX_PARTS} parts`);
    if (use === "looped") return value.length * LOOP_STEPS + Math.ceil(parts / 16);
    if (use === "walked") return parts;
    return Math.ceil(parts / (node.type === "CallExpression" ? 4 : 16));
  }

  /** A list in which one list occurs many times is as long as it would be when written. */
  #partsOf(items: readonly unknown[]): number {
    const known = this.#parts.get(items);
    if (known !== undefined) return known;
    const parts = items.reduce<number>((sum, item) => {
      const inner = innerValue(item);
      return sum + (Array.isArray(inner) ? this.#partsOf(inner) : 1);
    }, 1);
    this.#parts.set(items, parts);
    return parts;
  }
}

/** Values within a value, itself included; no more than `most` and one are counted. */
function countAll(value: unknown, most: number): number {
  const left = [value];
  let count = 0;
  while (left.length > 0 && count <= most) {
    const next = left.pop();
    count += typeof next === "string" ? 1 + next.length / 64 : 1;
    if (Array.isArray(next)) for (const item of next) left.push(innerValue(item));
    else if (next instanceof Map) for (const item of next.values()) left.push(innerValue(item));
  }
  return Math.ceil(count);
}

function innerValue(item: unknown): unknown {
  return typeof item === "object" && item !== null && "value" in item ? item.value : item;
}
