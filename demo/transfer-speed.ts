// Measures how fast bytes arrive over the last seconds: steady enough to read, quick enough to show a stall.

const WINDOW_MS = 4_000;
const MARK_MS = 200; // thousands of chunks arrive each second; sums this far apart suffice
const SETTLED_MS = 700; // the first burst is not representative

interface Mark {
  readonly atMs: number;
  /** Total bytes until then. */
  readonly bytes: number;
}

export class TransferSpeed {
  readonly #marks: Mark[] = [];
  #bytes = 0;

  add(bytes: number, nowMs: number): void {
    const last = this.#marks.at(-1);
    if (!last || nowMs - last.atMs >= MARK_MS) this.#marks.push({ atMs: nowMs, bytes: this.#bytes });
    this.#bytes += bytes;
  }

  /** Null until there is enough data. */
  bytesPerSecond(nowMs: number): number | null {
    // The newest mark older than the window stays: the window begins there.
    while (this.#marks[1] && this.#marks[1].atMs <= nowMs - WINDOW_MS) this.#marks.shift();
    const first = this.#marks[0];
    if (!first || nowMs - first.atMs < SETTLED_MS) return null;
    return (1000 * (this.#bytes - first.bytes)) / (nowMs - first.atMs);
  }
}
