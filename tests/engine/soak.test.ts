// A short soak with a fixed seed, on kernels that other tests compiled: no device is lost in it. `npm run soak` is the long one, with losses.
import { expect, test } from "vitest";
import { soak } from "../soak/soak";
import { sharingEngine } from "../support/test-model";

test("two hundred operations of a soak leave no fault", { timeout: 240_000 }, async () => {
  const shareDeviceWith = await sharingEngine();
  const { operations, faults } = await soak({ seed: "266", operations: 200, quietEvery: 40, families: ["llama-gqa"], shareDeviceWith });
  expect(faults).toEqual([]);
  expect(operations).toBe(200);
});
