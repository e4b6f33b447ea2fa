// An answer's reader: whatever it does, the run behind the answer ends when nobody reads it any more.
import { describe, expect, test } from "vitest";
import { Answer, type AnswerDelta } from "../../../src/chat/answer";

const SUMMARY = {
  text: "ab",
  finishReason: "stop",
  cachedTokens: 0,
  prefillTokens: 1,
  generatedTokens: 2,
  timeToFirstTokenMs: 1,
  prefillTokensPerSecond: 1,
  decodeTokensPerSecond: 1,
} as const;

/** An answer that the test speaks for. */
function openAnswer() {
  let emit: (delta: AnswerDelta) => void = () => undefined;
  let signal = new AbortController().signal;
  let end: () => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const answer = new Answer((emitDelta, runSignal) => {
    emit = emitDelta;
    signal = runSignal;
    return new Promise((resolve, reject) => {
      end = () => resolve(SUMMARY);
      fail = reject;
      runSignal.addEventListener("abort", () => reject(runSignal.reason));
    });
  });
  answer.finished.catch(() => undefined);
  return { answer, signal, say: (text: string) => emit({ text, stage: 0 }), end: () => end(), fail: (error: unknown) => fail(error) };
}

async function read(iterator: AsyncIterator<AnswerDelta, void>): Promise<string> {
  const result = await iterator.next();
  return result.done ? "(end)" : result.value.text;
}

describe("an answer is ended by a reader that leaves", () => {
  // A generator that was never started runs no `finally`: the run went on to its last token.
  test("before the first delta", async () => {
    const { answer, signal } = openAnswer();
    await answer[Symbol.asyncIterator]().return();
    expect(signal.aborted).toBe(true);
    await expect(answer.finished).rejects.toMatchObject({ name: "AbortError" });
  });

  test("as a stream that is cancelled unread", async () => {
    const { answer, signal } = openAnswer();
    const streams = ReadableStream as unknown as { from(items: AsyncIterable<AnswerDelta>): ReadableStream<AnswerDelta> };
    await streams.from(answer).cancel();
    expect(signal.aborted).toBe(true);
  });

  test("by an exception thrown into its iterator", async () => {
    const { answer, signal } = openAnswer();
    const reason = new Error("enough");
    await expect(answer[Symbol.asyncIterator]().throw(reason)).rejects.toBe(reason);
    expect(signal.aborted).toBe(true);
  });

  test("while it waits for a delta, at once", async () => {
    const { answer, signal } = openAnswer();
    const iterator = answer[Symbol.asyncIterator]();
    const waiting = iterator.next();
    await iterator.return();
    expect(signal.aborted).toBe(true);
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(await read(iterator)).toBe("(end)");
  });

  test("through a second iterator, after the first has read", async () => {
    const { answer, signal, say } = openAnswer();
    const first = answer[Symbol.asyncIterator]();
    say("a");
    expect(await read(first)).toBe("a");
    await answer[Symbol.asyncIterator]().return();
    expect(signal.aborted).toBe(true);
    await expect(first.next()).rejects.toMatchObject({ name: "AbortError" });
  });

  test("not where the answer was over, read or not", async () => {
    const { answer, signal, say, end } = openAnswer();
    say("a");
    end();
    await answer.finished;
    await answer[Symbol.asyncIterator]().return();
    expect(signal.aborted).toBe(false);
  });
});

describe("an answer's deltas", () => {
  test("come in order, those said before a failure before it", async () => {
    const { answer, say, fail } = openAnswer();
    const iterator = answer[Symbol.asyncIterator]();
    say("a");
    say("b");
    fail(new Error("lost"));
    expect([await read(iterator), await read(iterator)]).toEqual(["a", "b"]);
    await expect(iterator.next()).rejects.toThrow("lost");
    expect(await read(iterator)).toBe("(end)");
  });

  // One place to wait in was overwritten by the second reader: the first one waited for ever.
  test("reach every reader that waits", async () => {
    const { answer, say, end } = openAnswer();
    const [first, second] = [answer[Symbol.asyncIterator](), answer[Symbol.asyncIterator]()];
    const waiting = [read(first), read(second), read(first)];
    say("a");
    say("b");
    end();
    expect(await Promise.all(waiting)).toEqual(["a", "b", "(end)"]);
    expect(await read(second)).toBe("(end)");
  });
});
