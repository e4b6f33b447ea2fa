// Who runs, who waits, and what a lost device, a full pool or a release does to each.
import { describe, expect, test } from "vitest";
import { Roster } from "../../../src/engine/roster";
import { Run } from "../../../src/engine/run";
import { LlmError } from "../../../src/errors";
import { resolveSampling } from "../../../src/steps/sampling-settings";
import { Sequence } from "../../../src/steps/sequence";

const LOSS = new LlmError("device-lost", "it fell down");
const TOKEN = { token: 5, end: "none" } as const;

function rosterOf(batchSize = 8): Roster {
  return new Roster({ contextLength: 100, batchSize, prefixCache: false }, () => undefined);
}

/** A run in the roster, and how it ended: null while it has not. */
function ask(roster: Roster, name = "run") {
  const sequence = new Sequence([]);
  sequence.append([1, 2, 3]);
  const onToken = () => true;
  const run = new Run({ sequence, sampling: resolveSampling({ seed: 1 }, 10), stopIds: [], maxTokens: 20, onToken });
  const asked: { readonly name: string; readonly run: Run; outcome: unknown } = { name, run, outcome: null };
  const end = (outcome: unknown) => {
    asked.outcome = outcome;
  };
  run.ended.then(end, end);
  roster.add(run);
  return asked;
}

/** Begins all that can, each up to its first decode step. */
function beginAll(roster: Roster): void {
  for (let next = roster.begin(false); next; next = roster.begin(false)) if (next instanceof Run) decode(next);
}

function decode(run: Run): void {
  run.beginPrefill();
  run.state = "decode";
  run.noteSubmitted();
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

describe("a lost device", () => {
  // Every weight was read again for each of 114 tries, until the test ended them.
  test("that a request loses twice without a token between ends it, and says so", async () => {
    const roster = rosterOf();
    const asked = ask(roster);
    for (let loss = 0; loss < 2; loss++) {
      expect(asked.outcome).toBe(null);
      beginAll(roster);
      roster.lose(LOSS, "a test's adapter");
      await settled();
    }
    expect(asked.outcome).toMatchObject({ code: "device-lost", cause: LOSS });
    expect(String(asked.outcome)).toMatch(/a test's adapter.*2 times/);
    expect(roster.begin(false)).toBe(null);
  });

  test("is outlived by a request that gets on between losses, as often as it takes", async () => {
    const roster = rosterOf();
    const asked = ask(roster);
    for (let loss = 0; loss < 5; loss++) {
      beginAll(roster);
      asked.run.take(TOKEN, 0);
      roster.lose(LOSS, "a test's adapter");
      await settled();
    }
    expect(asked.outcome).toBe(null);
    expect(asked.run.sequence.tokens.length).toBe(8);
  });

  test("costs another request that ran beside the one that loses it nothing but time", async () => {
    const roster = rosterOf();
    const [culprit, innocent] = [ask(roster), ask(roster)];
    beginAll(roster);
    roster.lose(LOSS, "a test's adapter");
    beginAll(roster); // the culprit first, and no other before it has a token
    expect(roster.running).toEqual([culprit.run]);
    roster.lose(LOSS, "a test's adapter");
    beginAll(roster);
    await settled();
    expect(culprit.outcome).toBeInstanceOf(LlmError);
    expect([roster.running, innocent.outcome]).toEqual([[innocent.run], null]);
  });

  test("leaves requests in the order that they came", () => {
    const roster = rosterOf();
    const asked = ["one", "two", "three"].map((name) => ask(roster, name));
    beginAll(roster);
    for (const { run } of asked) run.take(TOKEN, 0);
    roster.lose(LOSS, "a test's adapter");
    const begun: unknown[] = [];
    for (let next = roster.begin(false); next; next = roster.begin(false)) {
      begun.push(next);
      if (next instanceof Run) {
        decode(next);
        next.take(TOKEN, 0);
      }
    }
    expect(begun).toEqual(asked.map(({ run }) => run));
  });
});

test("a step that is under way says nothing to a run that has begun again", () => {
  const roster = rosterOf();
  const { run } = ask(roster);
  beginAll(roster);
  const { attempt } = run;
  roster.lose(LOSS, "a test's adapter");
  beginAll(roster);
  expect(run.attempt).not.toBe(attempt);
});

test("slots are given again when their runs have ended, and never twice at once", () => {
  const roster = rosterOf(3);
  const asked = Array.from({ length: 4 }, () => ask(roster));
  beginAll(roster);
  expect(roster.running.map(({ slot }) => slot)).toEqual([0, 1, 2]);
  const second = asked[1];
  if (second) roster.finish(second.run, "stop");
  beginAll(roster);
  expect(roster.running.map(({ slot }) => slot)).toEqual([0, 2, 1]);
});

test("a released sequence ends what is asked of it, and nothing else", async () => {
  const roster = rosterOf();
  const [first, second] = [ask(roster), ask(roster)];
  beginAll(roster);
  const reason = new Error("enough");
  roster.release(first.run.sequence, reason);
  await settled();
  expect([first.outcome, second.outcome]).toEqual([reason, null]);
  expect(roster.running).toEqual([second.run]);
});

test("a run that is called off while it waits is gone, and those behind it go on", async () => {
  const roster = rosterOf(1);
  const [first, second, third] = [ask(roster), ask(roster), ask(roster)];
  beginAll(roster);
  const reason = new Error("enough");
  roster.fail(second.run, reason);
  roster.finish(first.run, "stop");
  beginAll(roster);
  await settled();
  expect(second.outcome).toBe(reason);
  expect(roster.running).toEqual([third.run]);
});
