// MurmurHash3 (x86, 128 bits) over a stream of 16-bit units: names for contents of any length. It keeps no attacker out.

const BUFFER_UNITS = 8192; // a whole number of blocks
const BLOCK_UNITS = 8;
const C1 = 0x239b961b;
const C2 = 0xab0e9789;
const C3 = 0x38b34ae5;
const C4 = 0xa1e38b93;

export class Murmur3 {
  readonly #units = new Uint16Array(BUFFER_UNITS);
  readonly #state = new Int32Array(4);
  #filled = 0;
  #mixedUnits = 0;

  /** Adds a text with its length, so that "ab", "c" and "a", "bc" differ. Returns itself. */
  text(text: string): this {
    const { length } = text;
    if (this.#filled + length + 2 > BUFFER_UNITS) return this.#longText(text);
    const units = this.#units;
    let filled = this.#filled;
    units[filled++] = length & 0xffff;
    units[filled++] = length >>> 16;
    for (let at = 0; at < length; at++) units[filled++] = text.charCodeAt(at);
    this.#filled = filled;
    return this;
  }

  /** Adds the bytes alone, in pairs; a last single byte makes a pair with 0. */
  bytes(bytes: Uint8Array): this {
    for (let at = 0; at < bytes.length; at += 2) this.#add((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8));
    return this;
  }

  /** 32 hexadecimal digits for all that was added. Nothing may be added afterwards. */
  digest(): string {
    const byteCount = 2 * (this.#mixedUnits + this.#filled);
    const tail = this.#filled - (this.#filled % BLOCK_UNITS);
    const units = this.#units.fill(0, this.#filled);
    mixBlocks(this.#state, units, tail);
    let [h1 = 0, h2 = 0, h3 = 0, h4 = 0] = this.#state;
    h1 ^= scramble(wordAt(units, tail), C1, 15, C2) ^ byteCount;
    h2 ^= scramble(wordAt(units, tail + 2), C2, 16, C3) ^ byteCount;
    h3 ^= scramble(wordAt(units, tail + 4), C3, 17, C4) ^ byteCount;
    h4 ^= scramble(wordAt(units, tail + 6), C4, 18, C1) ^ byteCount;
    h1 = (h1 + h2 + h3 + h4) | 0;
    [h2, h3, h4] = [(h2 + h1) | 0, (h3 + h1) | 0, (h4 + h1) | 0];
    [h1, h2, h3, h4] = [finish(h1), finish(h2), finish(h3), finish(h4)];
    h1 = (h1 + h2 + h3 + h4) | 0;
    return [h1, h2 + h1, h3 + h1, h4 + h1].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  #longText(text: string): this {
    this.#add(text.length & 0xffff);
    this.#add(text.length >>> 16);
    for (let at = 0; at < text.length; at++) this.#add(text.charCodeAt(at));
    return this;
  }

  #add(unit: number): void {
    if (this.#filled === BUFFER_UNITS) {
      mixBlocks(this.#state, this.#units, BUFFER_UNITS);
      this.#mixedUnits += BUFFER_UNITS;
      this.#filled = 0;
    }
    this.#units[this.#filled++] = unit;
  }
}

function mixBlocks(state: Int32Array, units: Uint16Array, end: number): void {
  let [h1 = 0, h2 = 0, h3 = 0, h4 = 0] = state;
  for (let at = 0; at < end; at += BLOCK_UNITS) {
    h1 ^= scramble(wordAt(units, at), C1, 15, C2);
    h1 = (Math.imul(rotate(h1, 19) + h2, 5) + 0x561ccd1b) | 0;
    h2 ^= scramble(wordAt(units, at + 2), C2, 16, C3);
    h2 = (Math.imul(rotate(h2, 17) + h3, 5) + 0x0bcaa747) | 0;
    h3 ^= scramble(wordAt(units, at + 4), C3, 17, C4);
    h3 = (Math.imul(rotate(h3, 15) + h4, 5) + 0x96cd1c35) | 0;
    h4 ^= scramble(wordAt(units, at + 6), C4, 18, C1);
    h4 = (Math.imul(rotate(h4, 13) + h1, 5) + 0x32ac3b17) | 0;
  }
  state.set([h1, h2, h3, h4]);
}

function wordAt(units: Uint16Array, at: number): number {
  return (units[at] ?? 0) | ((units[at + 1] ?? 0) << 16);
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

function scramble(word: number, before: number, bits: number, after: number): number {
  return Math.imul(rotate(Math.imul(word, before), bits), after);
}

function finish(word: number): number {
  const once = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  const twice = Math.imul(once ^ (once >>> 13), 0xc2b2ae35);
  return twice ^ (twice >>> 16);
}
