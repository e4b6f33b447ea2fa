// A short soak with a fixed seed; `npm run soak` is the long one.
import { expect, test } from "vitest";
import { soak } from "../soak/soak";

test("two hundred operations of a soak leave no fault", { timeout: 240_000 }, async () => {
  const { operations, faults } = await soak({ seed: "1", operations: 200, families: ["llama-gqa"] });
  expect(faults).toEqual([]);
  expect(operations).toBe(200);
});
