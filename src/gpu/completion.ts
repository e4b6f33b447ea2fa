// The one place that waits for the GPU: for submitted work to be done, for buffers to be mapped.
//
// Firefox looks for finished work every 100 ms, or when something is submitted (https://bugzilla.mozilla.org/show_bug.cgi?id=1870699). Left alone
// it holds decode to 40 tokens a second. On a device that does so an empty submit goes out every millisecond or two while somebody waits. Delete
// this when the bug is fixed and old versions are gone.

// Half of Firefox's period. An empty wait takes other browsers a millisecond.
const SLOW_WAIT_MS = 50;
const NUDGE_MS = 1;
const NUDGED_WAITS = 3;

export class Completion {
  readonly #device: GPUDevice;
  #polls = false;
  #waiting = 0;
  #isNudging = false;
  #isLost = false;

  private constructor(device: GPUDevice) {
    this.#device = device;
    const end = () => {
      this.#isLost = true;
    };
    device.lost.then(end, end);
  }

  /** Measures how the device tells of finished work. For a device that nobody else uses yet: others' submits would hide that it polls. */
  static async of(device: GPUDevice): Promise<Completion> {
    const completion = new Completion(device);
    // On a lost device nothing may ever be told.
    await Promise.race([completion.#measure(), device.lost]);
    return completion;
  }

  /** The browser looks for finished work from time to time: without the empty submits each wait would end at its next look. */
  get polls(): boolean {
    return this.#polls;
  }

  /** Resolves when all work submitted so far is done. */
  workDone(): Promise<void> {
    return this.#soon(this.#device.queue.onSubmittedWorkDone());
  }

  /** Resolves when the buffer is mapped; rejects as `mapAsync` does. */
  mapped(buffer: GPUBuffer, mode: GPUMapModeFlags, offset = 0, bytes = buffer.size - offset): Promise<void> {
    return this.#soon(buffer.mapAsync(mode, offset, bytes));
  }

  async #soon(waited: Promise<unknown>): Promise<void> {
    this.#waiting++;
    if (this.#polls && !this.#isNudging) void this.#nudge();
    try {
      await waited;
    } finally {
      this.#waiting--;
    }
  }

  /** Ends with the last wait, and with the device: a browser may leave waits on a lost one open for ever. */
  async #nudge(): Promise<void> {
    this.#isNudging = true;
    const helps = () => this.#polls && this.#waiting > 0 && !this.#isLost;
    while (helps()) {
      await shortPause();
      if (helps()) this.#device.queue.submit([]);
    }
    this.#isNudging = false;
  }

  /** The device polls if an empty wait is slow, and quick beside empty submits. A wait may begin just before a look, so the first does not count. */
  async #measure(): Promise<void> {
    await this.workDone();
    if ((await this.#emptyWaitMs()) < SLOW_WAIT_MS) return;
    this.#polls = true;
    // A device that is only slow, or busy with another page, is as slow with them. On a busy machine one of them may be late.
    for (let attempt = 0; attempt < NUDGED_WAITS; attempt++) if ((await this.#emptyWaitMs()) < SLOW_WAIT_MS) return;
    this.#polls = false;
  }

  async #emptyWaitMs(): Promise<number> {
    const start = performance.now();
    await this.workDone();
    return performance.now() - start;
  }
}

/** A millisecond or so. Timers that follow each other are held to 4 ms by browsers; one that a message's task starts is not. */
async function shortPause(): Promise<void> {
  const { port1, port2 } = new MessageChannel();
  await new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close(); // an open port keeps Node from ending
      setTimeout(resolve, NUDGE_MS);
    };
    port2.postMessage(null);
  });
}
