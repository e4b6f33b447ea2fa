// Measured GEMV parameters from visit to visit, and stores that hold something else.
import { describe, expect, test } from "vitest";
import { type GemvProduct, gemvCandidates, productKey } from "../../../src/kernels/gemv-candidates";
import { adapterKey, type TunedDevice } from "../../../src/tuning/adapter-key";
import { GemvTunings, type TunedProduct, type TuningEvent, type TuningStore, tuningsOn } from "../../../src/tuning/gemv-tunings";
import { memoryTuningStore } from "../../support/memory-tuning-store";

const PRODUCT: GemvProduct = { format: "q4m", rows: 2048, columns: 2048, epilogue: "store", norm: true, bias: false, subgroups: true };
// Only those that the key reads.
const LIMITS = {
  maxStorageBufferBindingSize: 2 ** 31,
  maxBufferSize: 2 ** 32,
  maxComputeInvocationsPerWorkgroup: 1024,
  maxComputeWorkgroupStorageSize: 32_768,
} as GPUSupportedLimits;
const DEVICE = on("nvidia lovelace");
const [DEFAULT, NEAR] = candidates();

function on(adapterName: string, software = false): TunedDevice {
  return { adapterName, features: { f16: true, subgroups: null, subgroupMatrix: false, timestamps: false, software }, limits: LIMITS };
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

const tuned = (product: GemvProduct, tuning = NEAR): TunedProduct => ({ ...product, tuning, speedup: 1.2 });

test("the next load uses the measured parameters; this one keeps its own", async () => {
  const store = memoryTuningStore();
  const { tunings } = await readFrom(store);
  await tunings.remember(DEVICE, [tuned(PRODUCT)]);
  expect(tuningsOn(DEVICE, tunings)(PRODUCT)).toEqual(DEFAULT);
  const next = await readFrom(store);
  expect(tuningsOn(DEVICE, next.tunings)(PRODUCT)).toEqual(NEAR);
  expect(next.events).toEqual([]);
});

test("a default that won is remembered, so it is not measured again", async () => {
  const store = memoryTuningStore();
  await (await readFrom(store)).tunings.remember(DEVICE, [tuned(PRODUCT, DEFAULT)]);
  expect((await readFrom(store)).tunings.find(DEVICE, PRODUCT)).toEqual(DEFAULT);
});

test("another adapter, a software adapter and every other product use the default parameters", async () => {
  const store = memoryTuningStore();
  await (await readFrom(store)).tunings.remember(DEVICE, [tuned(PRODUCT)]);
  const { tunings } = await readFrom(store);
  expect(tunings.find(on("intel xe"), PRODUCT)).toBeNull();
  expect(tunings.find(on(DEVICE.adapterName, true), PRODUCT)).toBeNull();
  const others: Partial<GemvProduct>[] = [
    ...([{ format: "q4" }, { epilogue: "add" }] satisfies Partial<GemvProduct>[]),
    ...[{ rows: 2112 }, { columns: 2080 }, { norm: false }, { bias: true }, { subgroups: false }],
  ];
  for (const other of others) expect(tunings.find(DEVICE, { ...PRODUCT, ...other })).toBeNull();
});

describe("an adapter without a name", () => {
  const unnamed = (change: object = {}, limits: Partial<GPUSupportedLimits> = {}): TunedDevice => {
    const { features } = on("");
    return { adapterName: "unknown adapter", features: { ...features, ...change }, limits: { ...LIMITS, ...limits } };
  };

  test.each([
    ["smaller bindings", unnamed({}, { maxStorageBufferBindingSize: 2 ** 27 })],
    ["smaller buffers", unnamed({}, { maxBufferSize: 2 ** 28 })],
    ["fewer threads in a workgroup", unnamed({}, { maxComputeInvocationsPerWorkgroup: 256 })],
    ["less workgroup memory", unnamed({}, { maxComputeWorkgroupStorageSize: 16_384 })],
    ["no f16", unnamed({ f16: false })],
    ["subgroups", unnamed({ subgroups: { min: 32, max: 32 } })],
    ["a name", DEVICE],
    ["its vendor's name", { ...unnamed(), adapterName: "intel" }],
  ])("does not use the tunings of one with %s", async (_, other) => {
    const store = memoryTuningStore();
    await (await readFrom(store)).tunings.remember(unnamed(), [tuned(PRODUCT)]);
    const { tunings } = await readFrom(store);
    expect([tunings.find(unnamed(), PRODUCT), tunings.find(other, PRODUCT)]).toEqual([NEAR, null]);
  });

  test("differs in its subgroup sizes, as one that tells only its vendor does", () => {
    for (const adapterName of ["unknown adapter", "apple"]) {
      const keys = [null, { min: 8, max: 32 }, { min: 16, max: 32 }, { min: 8, max: 64 }].map((subgroups) =>
        adapterKey({ ...unnamed({ subgroups }), adapterName }),
      );
      expect(new Set(keys).size).toBe(4);
    }
  });
});

test("the limits of an adapter with a name do not matter: a browser's update may change them", () => {
  expect(adapterKey({ ...DEVICE, limits: { ...LIMITS, maxBufferSize: 2 ** 28 } })).toBe(adapterKey(DEVICE));
});

test("engines that measure at the same time do not overwrite each other's results", async () => {
  const store = memoryTuningStore();
  const [one, other] = [await readFrom(store), await readFrom(store)];
  const second: GemvProduct = { ...PRODUCT, rows: 4096 };
  await one.tunings.remember(DEVICE, [tuned(PRODUCT)]);
  await other.tunings.remember(on("intel xe"), [tuned(second)]);
  await other.tunings.remember(DEVICE, [tuned(second)]);
  const { tunings } = await readFrom(store);
  expect([tunings.find(DEVICE, PRODUCT), tunings.find(DEVICE, second)]).toEqual([NEAR, NEAR]);
});

test.each([
  ["truncated", '{"version": 1, "adap'],
  ["of something else", '{"theme": "dark"}'],
  ["a list", "[1, 2]"],
  ["null", "null"],
  ["of a later version", '{"version": 1e9, "adapters": {}}'],
  ["with an adapter that is a number", '{"version": 1, "adapters": {"nvidia lovelace": 7}}'],
])("a stored text that is %s is ignored, reported and overwritten", async (_, text) => {
  const store = memoryTuningStore(text);
  const { tunings, events } = await readFrom(store);
  expect(events).toEqual([{ type: "tunings-unavailable", reason: expect.any(String) }]);
  expect(tunings.find(DEVICE, PRODUCT)).toBeNull();
  await tunings.remember(DEVICE, [tuned(PRODUCT)]);
  expect((await readFrom(store)).tunings.find(DEVICE, PRODUCT)).toEqual(NEAR);
});

test.each(["3 lanes, 2 rows, 128 threads, staged", { lanes: 4 }, "", null])(
  "a stored tuning that is no candidate (%j) is not used",
  async (name) => {
    const adapters = { [DEVICE.adapterName]: { [productKey(PRODUCT)]: name } };
    const { tunings } = await readFrom(memoryTuningStore(JSON.stringify({ version: 1, adapters })));
    expect(tuningsOn(DEVICE, tunings)(PRODUCT)).toEqual(DEFAULT);
    expect(tunings.find(on("constructor"), PRODUCT)).toBeNull();
  },
);

test("a store that fails is reported, and nothing else fails", async () => {
  const failing = (): Promise<never> => Promise.reject(new Error("the disk is full"));
  const { tunings, events } = await readFrom({ read: failing, write: failing });
  expect(tunings.find(DEVICE, PRODUCT)).toBeNull();
  await tunings.remember(DEVICE, [tuned(PRODUCT)]);
  const failed = { type: "tunings-unavailable", reason: expect.stringContaining("the disk is full") };
  expect(events).toEqual([failed, failed]);
});
