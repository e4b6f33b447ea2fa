// What the CPU tells a lane between steps: the rows of a chunk, which decoding sequences go on, and the pages of each slot.
import { assert } from "../assert";
import type { Gpu } from "../gpu/device";
import { type ChunkRows, chunkRows, encodeState, ROW_BYTES, STATE_HEAD_BYTES } from "../kernels/step-state";
import type { Lane } from "../model/lane";
import type { SequenceKv } from "./sequence";

export interface ParkedRow {
  /** In the state. */
  readonly row: number;
  readonly slot: number;
}

export class LaneFeed {
  readonly lane: Lane;
  readonly #gpu: Gpu;
  readonly #layerCount: number;

  constructor(gpu: Gpu, lane: Lane, layerCount: number) {
    this.#gpu = gpu;
    this.lane = lane;
    this.#layerCount = layerCount;
  }

  /** The rows that the next submitted step computes: consecutive positions of one sequence. What the state held is lost unless it was parked. */
  beginChunk(chunk: ChunkRows): void {
    assert(chunk.ids.length <= this.lane.rows, `a chunk of ${chunk.ids.length} rows on a lane of ${this.lane.rows}`);
    this.#gpu.device.queue.writeBuffer(this.lane.buffer("state"), 0, encodeState(chunkRows(chunk)));
  }

  /** Keeps rows of the state, as they are when the commands run, in the seats of their slots. */
  park(encoder: GPUCommandEncoder, rows: readonly ParkedRow[]): void {
    const [state, seats] = [this.lane.buffer("state"), this.lane.buffer("seats")];
    for (const { row, slot } of rows) {
      assert(slot < this.lane.slots && row < this.lane.rows, `row ${row} to the seat of slot ${slot}`);
      encoder.copyBufferToBuffer(state, rowOffset(row), seats, slot * ROW_BYTES, ROW_BYTES);
    }
  }

  /** Makes a step of the rows that rest in the seats of these slots, in this order. They stay in their seats as well. */
  seat(encoder: GPUCommandEncoder, slots: readonly number[]): void {
    assert(slots.length <= this.lane.slots, `${slots.length} rows of ${this.lane.slots} slots`);
    const [state, seats] = [this.lane.buffer("state"), this.lane.buffer("seats")];
    slots.forEach((slot, row) => {
      encoder.copyBufferToBuffer(seats, slot * ROW_BYTES, state, rowOffset(row), ROW_BYTES);
    });
    // A copy, since writeBuffer would come before every command of the encoder.
    encoder.copyBufferToBuffer(this.lane.buffer("counts"), slots.length * 4, state, 0, 4);
  }

  /** The page tables of a slot's sequence. */
  uploadPages(slot: number, parts: readonly SequenceKv[]): void {
    const { tableRowBytes, tableSlotBytes } = this.lane;
    const rowWords = tableRowBytes / 4;
    const rows = new Uint32Array(rowWords * this.#layerCount);
    for (const { group, table } of parts) {
      for (let layer = group.first; layer < group.end; layer++) rows.set(table.pages, layer * rowWords);
    }
    this.#gpu.device.queue.writeBuffer(this.lane.buffer("table"), slot * tableSlotBytes, rows);
  }
}

function rowOffset(row: number): number {
  return STATE_HEAD_BYTES + row * ROW_BYTES;
}
