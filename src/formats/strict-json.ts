// JSON in which no object may name a key twice. `JSON.parse` keeps the last one silently, so that two readers of one file could
// see two different models; the safetensors format forbids it.

/** The value of `text`. @throws SyntaxError when it is no JSON or names a key twice. */
export function parseStrictJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  refuseDuplicateKeys(text);
  return value;
}

/** `text` is known to be JSON, so that a walk over strings, brackets and commas finds every key. */
function refuseDuplicateKeys(text: string): void {
  const scopes: (Set<string> | null)[] = []; // one for each open bracket: an object's keys so far, or null for an array
  let keyComesNext = false;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case "{":
        scopes.push(new Set());
        keyComesNext = true;
        break;
      case "[":
        scopes.push(null);
        break;
      case "}":
      case "]":
        scopes.pop();
        break;
      case ",":
        keyComesNext = true; // in an object; an array has no keys to add to
        break;
      case '"': {
        const end = stringEnd(text, at);
        const keys = scopes.at(-1);
        if (keyComesNext && keys) addKey(keys, text.slice(at, end));
        keyComesNext = false;
        at = end - 1;
        break;
      }
    }
  }
}

/** `literal` still has its quotes and escapes: "a" and "\u0061" are one key. */
function addKey(keys: Set<string>, literal: string): void {
  const key: string = JSON.parse(literal);
  if (keys.has(key)) throw new SyntaxError(`key ${literal} appears twice`);
  keys.add(key);
}

/** The position after the closing quote of the string that opens at `start`. */
function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}
