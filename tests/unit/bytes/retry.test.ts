import { expect, test } from "vitest";
import { backoffDelayMs, isUnreachable, RetryableError, type RetryOptions, retry } from "../../../src/bytes/retry";
import { LlmError } from "../../../src/errors";
import { expectLlmError } from "../../support/expect-llm-error";

const options = (more: Partial<RetryOptions> = {}): RetryOptions => ({
  name: "a.bin",
  patience: { maxAttempts: 3, backoffMs: 1, stallMs: 1 },
  signal: undefined,
  progress: () => 0,
  onRetry: () => {},
  ...more,
});

test("the wait doubles with each failure up to a minute, and half of it is chance", () => {
  expect([1, 2, 3].map((failures) => backoffDelayMs(failures, 500, () => 0))).toEqual([250, 500, 1000]);
  expect([1, 2, 3].map((failures) => backoffDelayMs(failures, 500, () => 1))).toEqual([500, 1000, 2000]);
  expect(backoffDelayMs(50, 500, () => 1)).toBe(60_000);
});

test("tries are counted anew after progress", async () => {
  let position = 0;
  let tries = 0;
  const failing = retry(options({ progress: () => position }), async () => {
    tries += 1;
    if (tries <= 5) position += 1;
    throw new RetryableError("bytes-truncated", "cut");
  });
  await expectLlmError(failing, "bytes-truncated", "a.bin", "cut", "3 times");
  expect(tries).toBe(7);
});

test("what no retry can mend is thrown at once", async () => {
  let tries = 0;
  const failing = retry(options(), async () => {
    tries += 1;
    throw new LlmError("bytes-changed", "another file");
  });
  await expectLlmError(failing, "bytes-changed");
  expect(tries).toBe(1);
});

test("only an end of patience counts as unreachable", async () => {
  const failure = (error: Error) =>
    retry(options(), () => Promise.reject(error)).then(
      () => undefined,
      (reason: unknown) => reason,
    );
  expect(isUnreachable(await failure(new RetryableError("fetch-failed", "no network")))).toBe(true);
  expect(isUnreachable(await failure(new LlmError("fetch-failed", "404")))).toBe(false);
});
