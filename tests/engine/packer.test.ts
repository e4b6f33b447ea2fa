// Packing in real workers where there are any: the browser's bundle of the worker loads, and bytes and errors cross.
import { describe, expect, test } from "vitest";
import { packMatrix } from "../../src/weights/pack";
import { Packer, type PackerEvent } from "../../src/weights/packer";
import { rowsInOrder } from "../../src/weights/row-runs";
import { expectLlmError } from "../support/expect-llm-error";
import { seededRandom } from "../support/random";
import { mismatchCount } from "../unit/weights/compare";

const ROWS = 64;
const COLUMNS = 256;

function task(values: Float32Array<ArrayBuffer>) {
  const part = { where: '"x" in file', type: "F32", bytes: new Uint8Array(values.slice().buffer), runs: rowsInOrder(ROWS) } as const;
  return { format: "q8", rows: ROWS, columns: COLUMNS, parts: [part] } as const;
}

describe("Packer", () => {
  test("packs many matrices as one call after the other would, in workers where there are any", async () => {
    const events: PackerEvent[] = [];
    const packer = new Packer({ workerCount: 2, onEvent: (event) => events.push(event) });
    const random = seededRandom("packer");
    const all = Array.from({ length: 12 }, () => random.normal([ROWS, COLUMNS]));
    const tasks = all.map(task);
    const packed = await Promise.all(tasks.map((each) => packer.pack(each)));
    for (const [index, { codes, scales }] of packed.entries()) {
      const expected = packMatrix(task(all[index] ?? new Float32Array(0)));
      expect(mismatchCount(codes, expected.codes) + mismatchCount(scales, expected.scales)).toBe(0);
    }
    // Handed over to a worker, the bytes are gone from here.
    expect(tasks[0]?.parts[0].bytes.byteLength).toBe(typeof Worker === "undefined" ? ROWS * COLUMNS * 4 : 0);
    expect(events).toEqual([]);
    packer.dispose();
  });

  test("gives the code and the message of what a worker found", async () => {
    const packer = new Packer();
    const values = new Float32Array(ROWS * COLUMNS).fill(Number.NaN, COLUMNS);
    await expectLlmError(packer.pack(task(values)), "bad-weights", '"x" in file, row 1');
    packer.dispose();
  });
});
