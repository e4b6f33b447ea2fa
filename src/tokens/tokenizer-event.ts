// What a tokenizer's files say that cannot be taken as it is.

export type TokenizerEvent =
  /** A vocabulary that we cannot read as it was trained. An error with the same reason follows, unless a tokenizer.json stands in. */
  | { readonly type: "tokenizer-unsupported"; readonly key: string; readonly found: string; readonly expected: readonly string[] }
  /** A value that is missing or wrong and that the model can do without. `instead` says how it is read. */
  | { readonly type: "tokenizer-doubt"; readonly key: string; readonly found: string; readonly instead: string };

export type OnTokenizerEvent = (event: TokenizerEvent) => void;
