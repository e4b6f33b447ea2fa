// WGSL before the compiler sees it: #include, #if … #elif … #else … #endif over a flat map of defines, and the
// defines' names replaced by their values. Nothing else, on purpose: shaders stay readable as plain WGSL.
import { assert } from "../assert";

export type Defines = Readonly<Record<string, string | number | boolean>>;

/**
 * Directives stand alone on a line. A condition is built of defines, alone or compared with a word or number by `==` and `!=`, and of
 * `&&`, `||`, `!` and brackets; a define that is not there is an error, so that a misspelt one is found.
 */
export function preprocess(source: string, defines: Defines, includes: Readonly<Record<string, string>>): string {
  const lines: string[] = [];
  expand(source, defines, includes, new Set(), lines);
  const names = Object.keys(defines);
  const text = lines.join("\n");
  if (names.length === 0) return text;
  return text.replace(new RegExp(`\\b(${names.join("|")})\\b`, "g"), (name) => String(defines[name]));
}

function expand(source: string, defines: Defines, includes: Readonly<Record<string, string>>, seen: Set<string>, out: string[]): void {
  // One entry an open #if: whether its current branch is taken, and whether any branch was.
  const stack: { taken: boolean; done: boolean; readonly outer: boolean }[] = [];
  const active = () => stack.at(-1)?.taken ?? true;
  for (const line of source.split("\n")) {
    const directive = /^\s*#(\w+)\s*(.*?)\s*(?:\/\/.*)?$/.exec(line);
    if (!directive) {
      if (active()) out.push(line);
      continue;
    }
    const [, word = "", rest = ""] = directive;
    const top = stack.at(-1);
    if (word === "if") {
      const outer = active();
      const taken = outer && evaluate(rest, defines);
      stack.push({ taken, done: taken, outer });
    } else if (word === "elif" || word === "else") {
      assert(top, `#${word} without #if`);
      top.taken = top.outer && !top.done && (word === "else" || evaluate(rest, defines));
      top.done ||= top.taken;
    } else if (word === "endif") {
      assert(stack.pop(), "#endif without #if");
    } else if (word === "include") {
      const name = rest.replaceAll('"', "");
      const text = includes[name];
      assert(text !== undefined, `#include "${name}": no such file in shaders/include`);
      if (active() && !seen.has(name)) {
        seen.add(name);
        expand(text, defines, includes, seen, out);
      }
    } else {
      assert(false, `unknown directive #${word}`);
    }
  }
  assert(stack.length === 0, "#if without #endif");
}

function evaluate(condition: string, defines: Defines): boolean {
  const tokens = condition.match(/\w+|==|!=|&&|\|\||[!()]/g) ?? [];
  let at = 0;
  const or = (): boolean => {
    let value = and();
    while (tokens[at] === "||") {
      at++;
      const right = and();
      value = value || right;
    }
    return value;
  };
  const and = (): boolean => {
    let value = unary();
    while (tokens[at] === "&&") {
      at++;
      const right = unary();
      value = value && right;
    }
    return value;
  };
  const unary = (): boolean => {
    if (tokens[at] === "!") {
      at++;
      return !unary();
    }
    if (tokens[at] === "(") {
      at++;
      const value = or();
      assert(tokens[at++] === ")", `#if ${condition}: a bracket is not closed`);
      return value;
    }
    return comparison();
  };
  const comparison = (): boolean => {
    const word = tokens[at++];
    assert(word !== undefined, `#if ${condition}: something is missing`);
    assert(word in defines, `#if ${condition}: ${word} is not defined`);
    const operator = tokens[at];
    if (operator === "==" || operator === "!=") {
      const right = tokens[at + 1];
      at += 2;
      assert(right !== undefined, `#if ${condition}: something is missing`);
      return (resolveWord(word, defines) === resolveWord(right, defines)) === (operator === "==");
    }
    const value = defines[word];
    return value !== false && value !== 0 && value !== "";
  };
  const result = or();
  assert(at === tokens.length, `#if ${condition}: cannot read past "${tokens[at]}"`);
  return result;
}

function resolveWord(word: string, defines: Defines): string {
  return word in defines ? String(defines[word]) : word;
}
