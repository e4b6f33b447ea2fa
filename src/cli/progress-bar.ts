// A progress line on standard error; silent unless that is a terminal.

const CLEAR = "\r\x1b[K";

const WIDTH = 30;
const REDRAW_MS = 100;

export class ProgressBar {
  readonly #label: string;
  readonly #unit: "bytes" | "tokens";
  readonly #start = performance.now();
  readonly #isWatched = process.stderr.isTTY;
  #drawn = 0;

  constructor(label: string, unit: "bytes" | "tokens") {
    this.#label = label;
    this.#unit = unit;
  }

  update(done: number, total: number): void {
    const now = performance.now();
    if (!this.#isWatched || (now - this.#drawn < REDRAW_MS && done < total)) return;
    this.#drawn = now;
    const share = total > 0 ? done / total : 1;
    const filled = Math.round(WIDTH * share);
    const perSecond = (1000 * done) / Math.max(1, now - this.#start);
    const left = perSecond > 0 ? Math.ceil((total - done) / perSecond) : 0;
    process.stderr.write(
      `\r${this.#label} ${"█".repeat(filled)}${"░".repeat(WIDTH - filled)} ${this.#amount(done)} of ${this.#amount(total)}, ${this.#amount(perSecond)}/s, ${left} s left \x1b[K`,
    );
  }

  end(): void {
    if (this.#isWatched) process.stderr.write(CLEAR);
  }

  #amount(value: number): string {
    return this.#unit === "bytes" ? `${(value / 1e6).toFixed(1)} MB` : `${Math.round(value)} tokens`;
  }
}

/** Prints a permanent line on standard error; a visible bar continues below it. */
export function printLine(text: string): void {
  process.stderr.write(`${process.stderr.isTTY ? CLEAR : ""}${text}\n`);
}
