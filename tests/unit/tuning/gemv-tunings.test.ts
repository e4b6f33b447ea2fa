// What is remembered of one visit, and whatever else may lie in its place by the next.
import { expect, test } from "vitest";
import { type GemvProduct, gemvCandidates, productKey } from "../../../src/kernels/gemv-candidates";
import { GemvTunings, type TuningEvent, type TuningStore, tuningsOn } from "../../../src/tuning/gemv-tunings";
import { memoryTuningStore } from "../../support/memory-tuning-store";

const PRODUCT: GemvProduct = { format: "q4m", rows: 2048, columns: 2048, epilogue: "store", norm: true, bias: false, subgroups: true };
const DEVICE = on("nvidia lovelace");
const [DEFAULT, NEAR] = candidates();

function on(adapterName: string, software = false) {
  return { adapterName, features: { f16: true, subgroups: null, subgroupMatrix: false, timestamps: false, software } };
}

function candidates() {
  const [first, second] = gemvCandidates(PRODUCT, { software: false });
  if (!first || !second) throw new Error("no candidates");
  return [first, second] as const;
}

async function readFrom(store: TuningStore) {
  const events: TuningEvent[] = [];
  return { tunings: await GemvTunings.read(store, (event) => events.push(event)), events };
}

const measured = (product: GemvProduct, tuning = NEAR) => ({ product, tuning, speedup: 1.2, cuts: [] });

test("the next load takes what this one measured; this one does not", async () => {
  const store = memoryTuningStore();
  const { tunings } = await readFrom(store);
  await tunings.remember(DEVICE.adapterName, [measured(PRODUCT)]);
  expect(tuningsOn(DEVICE, tunings)(PRODUCT)).toEqual(DEFAULT);
  const next = await readFrom(store);
  expect(tuningsOn(DEVICE, next.tunings)(PRODUCT)).toEqual(NEAR);
  expect(next.events).toEqual([]);
});

test("a default that was measured is known, so that it is not measured again", async () => {
  const store = memoryTuningStore();
  await (await readFrom(store)).tunings.remember(DEVICE.adapterName, [measured(PRODUCT, DEFAULT)]);
  expect((await readFrom(store)).tunings.find(DEVICE, PRODUCT)).toEqual(DEFAULT);
});

test("another adapter, a software one, and every other product have the usual cut", async () => {
  const store = memoryTuningStore();
  await (await readFrom(store)).tunings.remember(DEVICE.adapterName, [measured(PRODUCT)]);
  const { tunings } = await readFrom(store);
  expect(tunings.find(on("intel xe"), PRODUCT)).toBeNull();
  expect(tunings.find(on(DEVICE.adapterName, true), PRODUCT)).toBeNull();
  const others: Partial<GemvProduct>[] = [
    ...([{ format: "q4" }, { epilogue: "add" }] satisfies Partial<GemvProduct>[]),
    ...[{ rows: 2112 }, { columns: 2080 }, { norm: false }, { bias: true }, { subgroups: false }],
  ];
  for (const other of others) expect(tunings.find(DEVICE, { ...PRODUCT, ...other })).toBeNull();
});

test("two engines that measured different products both are remembered", async () => {
  const store = memoryTuningStore();
  const [one, other] = [await readFrom(store), await readFrom(store)];
  const second: GemvProduct = { ...PRODUCT, rows: 4096 };
  await one.tunings.remember(DEVICE.adapterName, [measured(PRODUCT)]);
  await other.tunings.remember("intel xe", [measured(second)]);
  await other.tunings.remember(DEVICE.adapterName, [measured(second)]);
  const { tunings } = await readFrom(store);
  expect([tunings.find(DEVICE, PRODUCT), tunings.find(DEVICE, second)]).toEqual([NEAR, NEAR]);
});

test.each([
  ["cut off", '{"version": 1, "adap'],
  ["of something else", '{"theme": "dark"}'],
  ["a list", "[1, 2]"],
  ["null", "null"],
  ["of a later version", '{"version": 1e9, "adapters": {}}'],
  ["with an adapter that is a number", '{"version": 1, "adapters": {"nvidia lovelace": 7}}'],
])("a text that is %s is ignored, told of, and written over", async (_, text) => {
  const store = memoryTuningStore(text);
  const { tunings, events } = await readFrom(store);
  expect(events).toEqual([{ type: "tunings-unavailable", reason: expect.any(String) }]);
  expect(tunings.find(DEVICE, PRODUCT)).toBeNull();
  await tunings.remember(DEVICE.adapterName, [measured(PRODUCT)]);
  expect((await readFrom(store)).tunings.find(DEVICE, PRODUCT)).toEqual(NEAR);
});

test.each(["3 lanes, 2 rows, 128 threads, staged", { lanes: 4 }, "", null])("a cut that is no candidate (%j) is not taken", async (cut) => {
  const adapters = { [DEVICE.adapterName]: { [productKey(PRODUCT)]: cut } };
  const { tunings } = await readFrom(memoryTuningStore(JSON.stringify({ version: 1, adapters })));
  expect(tuningsOn(DEVICE, tunings)(PRODUCT)).toEqual(DEFAULT);
  expect(tunings.find(on("constructor"), PRODUCT)).toBeNull();
});

test("a store that fails fails nothing, and is told of", async () => {
  const failing = (): Promise<never> => Promise.reject(new Error("the disk is full"));
  const { tunings, events } = await readFrom({ read: failing, write: failing });
  expect(tunings.find(DEVICE, PRODUCT)).toBeNull();
  await tunings.remember(DEVICE.adapterName, [measured(PRODUCT)]);
  const told = { type: "tunings-unavailable", reason: expect.stringContaining("the disk is full") };
  expect(events).toEqual([told, told]);
});
