// Upgrades while answers are on their way: at any token, under every policy, and however many chats there are.
import { afterAll, expect, test } from "vitest";
import type { EngineOptions, UpgradePolicy } from "../../src/index";
import { seededRandom } from "../support/random";
import { planFile } from "../support/stage-plans";
import { without } from "../support/staged-engine";
import { continueSequence, generateAfresh, loadStagedCore, type StagedCore } from "../support/test-core";
import { readGolden } from "../support/test-model";

// Every policy, and every case under the one that computes between steps; upgrade.test.ts has the cases under another.
const RUNS: readonly (readonly [name: string, policy: UpgradePolicy])[] = [
  ["llama-gqa", "background"],
  ["llama-gqa", "blocking"],
  ["llama-gqa", "turn-boundary"],
  ["mistral-window", "background"],
  ["falcon-new-arch", "background"],
];
const LAYER_COUNT = 6;
const OPTIONS: EngineOptions = { contextLength: 250, chunkRows: 72, pageSize: 16, kvFormat: "f32" };
// On a software adapter a token takes some 30 ms.
const MAX_TOKENS = 40;
// A GPU says these while a first upgrade is made ready; an answer ends when enough came after it.
const UNTIL_LANDED = 200;
const AFTER_LANDED = 25;

/** What layers are missing at each stage but the last. */
type Missing = readonly (readonly number[])[];

function loadStaged(name: string, missing: Missing): Promise<StagedCore> {
  const stages = [...missing.map((layers) => without(LAYER_COUNT, ...layers)), without(LAYER_COUNT)];
  return loadStagedCore(`tests/golden/${name}`, planFile(stages), OPTIONS);
}

async function withStaged(name: string, missing: Missing, use: (staged: StagedCore, ids: readonly number[]) => Promise<void>) {
  const { ids } = await readGolden(`tests/golden/${name}`);
  const staged = await loadStaged(name, missing);
  try {
    await use(staged, ids);
  } finally {
    staged.dispose();
  }
}

interface Said {
  readonly prompt: readonly number[];
  readonly ids: readonly number[];
  readonly stages: readonly number[];
}

/** Greedy ids after `prompt`; `act` is called with the number of tokens said so far and the last one's stage, and ends the answer with false. */
async function say(
  { core }: StagedCore,
  prompt: readonly number[],
  maxTokens: number,
  act: (said: number, stage: number) => boolean | undefined,
): Promise<Said> {
  const sequence = core.createSequence();
  sequence.append(prompt);
  const stages: number[] = [];
  await continueSequence(core, sequence, {
    maxTokens,
    onToken: (_, stage) => {
      stages.push(stage);
      return act(stages.length, stage) ?? true;
    },
  });
  const ids = sequence.tokens.slice(prompt.length);
  await core.releaseSequence(sequence);
  return { prompt, ids, stages };
}

const loaded = new Map<string, Promise<StagedCore>>();
afterAll(async () => {
  for (const staged of await Promise.all(loaded.values())) staged.dispose();
});

/** An engine whose first stage lacks these layers, and that stays there: for all tests. */
function loadedThere(name: string, missing: readonly number[]): Promise<StagedCore> {
  const key = `${name} ${missing}`;
  const staged = loaded.get(key) ?? loadStaged(name, missing.length > 0 ? [missing] : []);
  loaded.set(key, staged);
  return staged;
}

/** What each stage said must be what an engine loaded there goes on with after the same ids. */
async function expectEachStageExact(name: string, missing: Missing, { prompt, ids, stages }: Said): Promise<void> {
  expect(stages).toEqual([...stages].sort());
  for (const stage of new Set(stages)) {
    const first = stages.indexOf(stage);
    const end = stages.lastIndexOf(stage) + 1;
    const { core } = await loadedThere(name, missing[stage] ?? []);
    const expected = await generateAfresh(core, [...prompt, ...ids.slice(0, first)], { maxTokens: end - first });
    expect(ids.slice(first, end), `stage ${stage}, tokens ${first} to ${end}`).toEqual(expected);
  }
}

/** To `stage`, one by one, with nothing cached. */
async function jump({ core, load }: StagedCore, stage: number): Promise<void> {
  for (let next = 1; next <= stage; next++) await core.upgrade({ stage: next, weights: await load(next), policy: "blocking" });
}

test.each(RUNS)("%s under the policy %s answers on as the new stage would after the same tokens", async (name, policy) => {
  const missing = [[1, 2]];
  await withStaged(name, missing, async (staged, ids) => {
    const weights = await staged.load(1);
    let upgrade: Promise<unknown> | undefined;
    const maxTokens = policy === "turn-boundary" ? MAX_TOKENS : UNTIL_LANDED;
    let left = AFTER_LANDED;
    const said = await say(staged, ids.slice(0, 40), maxTokens, (count, stage) => {
      if (count === 5) upgrade = staged.core.upgrade({ stage: 1, weights, policy });
      return stage === 0 || --left > 0;
    });
    await upgrade;
    expect(staged.core.stage).toBe(1);
    expect(new Set(said.stages)).toEqual(new Set(policy === "turn-boundary" ? [0] : [0, 1]));
    await expectEachStageExact(name, missing, said);
  });
});

test("upgrades at random tokens, two in a row, leave each stage's answer exact", async () => {
  const random = seededRandom("upgrades in decode");
  const missing = [[1, 2], [2]];
  for (let round = 0; round < 3; round++) {
    await withStaged("llama-gqa", missing, async (staged, ids) => {
      const [first, second] = [await staged.load(1), await staged.load(2)];
      const at = 1 + random.integer(20);
      const between = random.integer(6);
      const upgrades: Promise<unknown>[] = [];
      const said = await say(staged, ids.slice(0, 1 + random.integer(60)), MAX_TOKENS, (count) => {
        if (count === at) upgrades.push(staged.core.upgrade({ stage: 1, weights: first, policy: "background" }));
        if (count === at + between) upgrades.push(staged.core.upgrade({ stage: 2, weights: second, policy: "background" }));
        return true;
      });
      await Promise.all(upgrades);
      expect(staged.core.stage).toBe(2);
      await expectEachStageExact("llama-gqa", missing, said);
    });
  }
});

test("holds after its last upgrade what an engine holds that was loaded whole", async () => {
  const held: unknown[] = [];
  await withStaged("llama-gqa", [[1, 2], [2]], async (staged, ids) => {
    await say(staged, ids.slice(0, 40), 8, () => true);
    await jump(staged, 2);
    await say(staged, ids.slice(0, 40), 8, () => true);
    held.push(staged.core.memory());
  });
  await withStaged("llama-gqa", [], async (whole) => {
    held.push(whole.core.memory());
  });
  expect(held[0]).toEqual(held[1]);
});

test("leaves idle chats behind, and each catches up when it is next used", async () => {
  const missing = [[1, 2], [2]];
  await withStaged("llama-gqa", missing, async (staged, ids) => {
    const { core } = staged;
    const chats = [ids.slice(0, 40), ids.slice(20, 57), ids.slice(5, 21)].map((prompt) => {
      const sequence = core.createSequence();
      sequence.append(prompt);
      return sequence;
    });
    for (const chat of chats) await continueSequence(core, chat, { maxTokens: 5 });
    await jump(staged, 1);
    const [first, second, third] = chats;
    if (!first || !second || !third) throw new Error("three chats");
    // The one used last was rebuilt with the upgrade; what the others have lies below the boundary.
    expect(third.parts.map(({ cachedLength }) => cachedLength)).toEqual([20, 20, 20]);
    await continueSequence(core, second, { maxTokens: 5 });
    await core.upgrade({ stage: 2, weights: await staged.load(2), policy: "background" });
    for (const chat of [third, second, first]) {
      const before = [...chat.tokens];
      await continueSequence(core, chat, { maxTokens: 8 });
      const expected = await generateAfresh(core, before, { maxTokens: 8 });
      expect(chat.tokens.slice(before.length)).toEqual(expected);
    }
  });
});

test.each(["active", "idle"])(
  "without a recorded residual, an %s chat starts from its ids, and no K/V below the boundary is written",
  async (which) => {
    await withStaged("llama-gqa", [[2, 3], [3]], async (staged, ids) => {
      const { core } = staged;
      const chat = core.createSequence();
      chat.append(ids.slice(0, 48));
      await continueSequence(core, chat, { maxTokens: 1 });
      const before = await core.snapshot(chat);
      // As after a snapshot that had none, or on a device that could not bind them.
      for (const part of chat.parts) part.restored(part.cachedLength, 0);
      if (which === "idle") {
        const other = core.createSequence();
        other.append(ids.slice(0, 20));
        await continueSequence(core, other, { maxTokens: 1 });
      }
      const report = await core.upgrade({ stage: 1, weights: await staged.load(1), policy: "background" });
      expect(report.rereadPositions).toBe(which === "active" ? 48 : 0);
      const tokens = [...chat.tokens];
      await continueSequence(core, chat, { maxTokens: 8 });
      expect(chat.tokens.slice(tokens.length)).toEqual(await generateAfresh(core, tokens, { maxTokens: 8 }));
      const after = await core.snapshot(chat);
      for (const [name, content] of before.groups[0]?.contents ?? []) {
        if (name !== "residuals") expect(after.groups[0]?.contents.get(name)?.subarray(0, content.length), name).toEqual(content);
      }
      expect(before.groups[0]?.contents.size).toBeGreaterThanOrEqual(4);
    });
  },
);
