// What the CPU tells a lane before a step: where it is, which ids, and the pages of each layer.
import type { Gpu } from "../gpu/device";
import type { Lane } from "../model/lane";
import type { SequenceKv, TokenId } from "./sequence";

export class LaneFeed {
  readonly lane: Lane;
  readonly #gpu: Gpu;
  readonly #layerCount: number;

  constructor(gpu: Gpu, lane: Lane, layerCount: number) {
    this.#gpu = gpu;
    this.lane = lane;
    this.#layerCount = layerCount;
  }

  /** The state that the next submitted step starts from, and its ids; `sampledBefore` tokens were drawn in its run. */
  begin(position: number, ids: readonly TokenId[], sampledBefore = 0): void {
    const { queue } = this.#gpu.device;
    queue.writeBuffer(this.lane.buffer("ids"), 0, new Uint32Array(ids));
    queue.writeBuffer(this.lane.buffer("state"), 0, new Uint32Array([position, ids.length, 0, sampledBefore]));
  }

  uploadPages(parts: readonly SequenceKv[]): void {
    const rowWords = this.lane.tableRowBytes / 4;
    const rows = new Uint32Array(rowWords * this.#layerCount);
    for (const { group, table } of parts) {
      for (let layer = group.first; layer < group.end; layer++) rows.set(table.pages, layer * rowWords);
    }
    this.#gpu.device.queue.writeBuffer(this.lane.buffer("table"), 0, rows);
  }
}
