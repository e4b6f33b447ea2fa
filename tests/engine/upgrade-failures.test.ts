// An upgrade whose bytes do not come, or whose memory is not there, or that is called off: the stage that answers goes on as if it had never
// begun, and the next attempt lands (I12).
import { describe, expect, test, vi } from "vitest";
import type { Chat, Engine, LoadOptions } from "../../src/index";
import { failAllocations, replaceMethod } from "../support/device-faults";
import { expectLlmError } from "../support/expect-llm-error";
import { FailingUpgrades, failuresTold, type Loaded, reasonOf } from "../support/failing-upgrades";
import { FaultyFiles, overlap } from "../support/faulty-files";
import { planFile } from "../support/stage-plans";
import { loadStagedFiles, without } from "../support/staged-engine";
import { SPECIAL_IDS, tinyChatFiles } from "../support/tiny-chat-model";

const LAYER_COUNT = 6;
const STAGES = [{ ...without(LAYER_COUNT, 1, 2), rows: 300 }, without(LAYER_COUNT)];
const upgrades = new FailingUpgrades(STAGES);
const ENOUGH = new Error("enough");
// A copy beside the steps takes its time, and longer where the machine is busy.
const PATIENCE = { timeout: 30_000 };

type Fault = (loaded: Loaded) => Promise<() => void>;

/** `fault` makes an upgrade fail until what it returns is called. */
async function expectFailure(fault: Fault, check: (error: unknown) => Promise<void> | void, options: LoadOptions = {}): Promise<void> {
  await upgrades.withEngine(async (loaded) => {
    const { engine, events } = loaded;
    const before = await upgrades.look(engine);
    const mend = await fault(loaded);
    const error = await reasonOf(engine.upgrade().finally(mend));
    await check(error);
    expect(failuresTold(events)).toEqual([[1, error]]);
    expect(engine.stage.index).toBe(0);
    expect(await upgrades.look(engine)).toEqual(before);
    await upgrades.expectLands(engine);
    expect(failuresTold(events).length).toBe(1);
    // What came in vain and was read again counts once.
    const progress = events.findLast((event) => event.type === "load-progress");
    expect(progress?.loadedBytes).toBe(progress?.totalBytes);
  }, options);
}

describe("bytes of a later stage", () => {
  test.each(["model.layers.2.mlp.down_proj.weight", "model.layers.1.post_attention_layernorm.weight", "lm_head.weight"])(
    "of %s that cannot be read end the upgrade",
    (tensor) =>
      expectFailure(
        async ({ files }) => {
          const range = await files.rangeOf(tensor);
          files.onRead = (asked) => {
            if (overlap(asked, range)) throw ENOUGH;
          };
          return () => {
            files.onRead = () => undefined;
          };
        },
        (error) => expect(error).toBe(ENOUGH),
      ),
  );

  test("whose hash is wrong end the upgrade", async () => {
    const hashes = await (await FaultyFiles.of("llama-gqa")).hashes();
    await expectFailure(
      ({ files }) => files.damage("model.layers.2.mlp.up_proj.weight", [0xff]),
      (error) => expectLlmError(Promise.reject(error), "bad-hash", "model.safetensors"),
      { plan: { ...planFile(STAGES), hashes } },
    );
  });

  const NAN = [0xc0, 0x7f];
  test.each(["model.layers.2.self_attn.q_proj.weight", "model.layers.1.input_layernorm.weight"])(
    "with a NaN in %s end the upgrade",
    (tensor) =>
      expectFailure(
        ({ files }) => files.damage(tensor, NAN),
        (error) => expectLlmError(Promise.reject(error), "bad-weights", tensor),
      ),
  );
});

test.each([
  // A unit is allocated as one.
  ["layer 1 qkv.*", "layer 1"],
  ["layer 2 mlpNormWeight", "layer 2"],
  ["layer 5 keys", "the K/V of the next stage"],
  ["rebuild x", "the K/V of the next stage"],
])("a device without memory for %j ends the upgrade", (label, named) =>
  expectFailure(
    async () => failAllocations(upgrades.device, new RegExp(`^${label}$`)),
    (error) => expectLlmError(Promise.reject(error), "out-of-memory", named),
  ),
);

describe("an upgrade that is called off", () => {
  /** Calls `tick` at the upgrade's reads, allocations and events, and when it is ready to land, until what it returns is called. */
  function watchMoments(loaded: Loaded, tick: () => void): () => void {
    loaded.files.onRead = tick;
    loaded.onEvent = ({ type }) => {
      if (type !== "upgrade-end" && type !== "stage-ready") tick();
    };
    const uncount = replaceMethod(upgrades.device, "createBuffer", (create: GPUDevice["createBuffer"]) => (descriptor) => {
      tick();
      return create(descriptor);
    });
    return () => {
      uncount();
      loaded.files.onRead = () => undefined;
      loaded.onEvent = () => undefined;
    };
  }

  async function countMoments(): Promise<number> {
    let moments = 0;
    const tick = () => moments++;
    await upgrades.withEngine(async (loaded) => {
      const stop = watchMoments(loaded, tick);
      await loaded.engine.upgrade({ onPrepared: tick }).finally(stop);
    });
    return moments;
  }

  /** Does `act` at the upgrade's `moment`-th moment, and gives what it failed with. */
  async function failAt(loaded: Loaded, moment: number, signal: AbortSignal | undefined, act: () => void): Promise<unknown> {
    let moments = 0;
    const tick = () => {
      if (++moments === moment) act();
    };
    const stop = watchMoments(loaded, tick);
    const upgrade = loaded.engine.upgrade({ onPrepared: tick, ...(signal && { signal }) });
    return reasonOf(upgrade.finally(stop));
  }

  test("at any moment throws the signal's reason, and nobody is told", async () => {
    const count = await countMoments();
    expect(count).toBeGreaterThan(30);
    await upgrades.withEngine(async (loaded) => {
      const { engine, events } = loaded;
      const before = await upgrades.look(engine);
      for (let moment = 1; moment <= count; moment++) {
        const abort = new AbortController();
        const reason = await failAt(loaded, moment, abort.signal, () => abort.abort(ENOUGH));
        expect(reason, `aborted at moment ${moment} of ${count}`).toBe(ENOUGH);
        expect(engine.memory(), `aborted at moment ${moment} of ${count}`).toEqual(before.memory);
      }
      expect(engine.stage.index).toBe(0);
      expect(await upgrades.look(engine)).toEqual(before);
      expect(failuresTold(events)).toEqual([]);
      await upgrades.expectLands(engine);
    });
  });

  test("before it begins reads nothing", async () => {
    await upgrades.withEngine(async ({ engine, files }) => {
      const before = await upgrades.look(engine);
      let reads = 0;
      files.onRead = () => {
        reads++;
      };
      expect(await reasonOf(engine.upgrade({ signal: AbortSignal.abort(ENOUGH) }))).toBe(ENOUGH);
      expect(reads).toBe(0);
      expect(await upgrades.look(engine)).toEqual(before);
      await upgrades.expectLands(engine);
    });
  });

  test.each([3, 0.5, 1])("by the engine's disposal (moment %f) leaves nothing, and nobody is told", async (moment) => {
    const count = moment < 3 ? await countMoments() : 1;
    await upgrades.withEngine(async (loaded) => {
      const { engine, events } = loaded;
      const reason = await failAt(loaded, Math.ceil(moment * count), undefined, () => engine.dispose());
      await expectLlmError(Promise.reject(reason), "disposed");
      expect(engine.memory()).toMatchObject({ total: 0, bufferCount: 0 });
      expect(failuresTold(events)).toEqual([]);
    });
  });

  test("by the engine's disposal while another waits behind it ends both, and nothing is read any more", async () => {
    await upgrades.withEngine(async ({ engine, files, events }) => {
      let reads = 0;
      files.onRead = () => {
        if (++reads === 2) engine.dispose();
      };
      const attempts = [engine.upgrade(), engine.upgrade()];
      for (const attempt of attempts) await expectLlmError(attempt, "disposed");
      await expectLlmError(engine.upgrade(), "disposed");
      expect(reads).toBe(2);
      expect(failuresTold(events)).toEqual([]);
    });
  });
});

describe("the next attempt", () => {
  const again: Readonly<Record<string, (loaded: Loaded) => Promise<void>>> = {
    "engine.upgrade": ({ engine }) => engine.upgrade(),
    "engine.resumeDelivery": ({ engine }) => {
      engine.resumeDelivery();
      return engine.complete;
    },
  };

  test.each(Object.keys(again))("by %s, begun as soon as a failure is told, lands", async (by) => {
    await upgrades.withEngine(async (loaded) => {
      const { engine } = loaded;
      const mend = failAllocations(upgrades.device, /^layer 5 keys$/);
      let next: Promise<void> | undefined;
      loaded.onEvent = ({ type }) => {
        if (type !== "upgrade-failed") return;
        mend();
        next = again[by]?.(loaded);
      };
      await expectLlmError(engine.upgrade(), "out-of-memory");
      await next;
      expect(engine.stage.index).toBe(1);
      await upgrades.expectLands(engine);
    });
  });
});

test("a listener that throws ends neither a load nor an upgrade nor an answer: its errors are told of as uncaught ones", async () => {
  const uncaught: unknown[] = [];
  vi.stubGlobal("reportError", (error: unknown) => uncaught.push(error));
  try {
    let events = 0;
    const onEvent = () => {
      events++;
      throw ENOUGH;
    };
    const engine = await loadStagedFiles(await tinyChatFiles(), STAGES, { needsTokenizer: true, onEvent });
    let prepared = 0;
    const onPrepared = () => {
      prepared++;
      throw ENOUGH;
    };
    await engine.upgrade({ onPrepared });
    expect(engine.stage.index).toBe(1);
    const chat = await engine.restoreChat(await engine.createChat().snapshot());
    expect((await chat.send("Who is it", { maxTokens: 2 }).finished).finishReason).toMatch(/length|stop/);
    engine.dispose();
    expect(prepared).toBe(1);
    expect(events).toBeGreaterThan(10);
    expect(uncaught).toEqual(Array(events + prepared).fill(ENOUGH));
  } finally {
    vi.unstubAllGlobals();
  }
});

describe("a chat", () => {
  const THREE = [without(LAYER_COUNT, 1, 2), without(LAYER_COUNT, 2), without(LAYER_COUNT)];
  /** Greedy, and never a control token. */
  const PLAIN = { temperature: 0, logitBias: new Map(SPECIAL_IDS.map((id) => [id, Number.NEGATIVE_INFINITY])), maxTokens: 8 };

  async function withChats(use: (engine: Engine) => Promise<readonly string[]>): Promise<readonly string[]> {
    const engine = await loadStagedFiles(await tinyChatFiles(), THREE, { needsTokenizer: true, poolLength: 256 });
    try {
      return await use(engine);
    } finally {
      engine.dispose();
    }
  }

  const say = (chat: Chat, message: string) => chat.send(message, PLAIN).finished.then(({ text }) => text);

  // The copy that is taken for safety read K/V that the upgrade before had freed.
  test("that is idle while upgrades fail and land says what it would have said, and no copy of it is left", async () => {
    const answers = async (engine: Engine, disturb: () => Promise<void>) => {
      const chat = engine.createChat();
      const texts = [await say(chat, "Who is it")];
      await disturb();
      texts.push(await say(chat, "And then"));
      const { scratch } = engine.memory();
      for (const stage of [1, 2]) {
        await engine.upgrade({ stage });
        await vi.waitFor(() => expect(engine.memory().scratch).toBe(scratch), PATIENCE);
      }
      return [...texts, await say(chat, "So")];
    };
    const disturbed = await withChats((engine) =>
      answers(engine, async () => {
        const before = engine.memory();
        const abort = new AbortController();
        const onPrepared = () => abort.abort(ENOUGH);
        expect(await reasonOf(engine.upgrade({ signal: abort.signal, onPrepared }))).toBe(ENOUGH);
        await vi.waitFor(() => expect(engine.memory()).toEqual(before), PATIENCE);
      }),
    );
    expect(disturbed).toEqual(await withChats((engine) => answers(engine, async () => undefined)));
  });

  test("that is disposed of while its K/V is rebuilt ends alone, and the upgrade lands", async () => {
    const last = (engine: Engine) => say(engine.createChat(), "Who is it");
    const texts = await withChats(async (engine) => {
      const chat = engine.createChat();
      await say(chat, "Who is it");
      let answer: Promise<unknown> | undefined;
      const onPrepared = () => {
        answer = reasonOf(disposeAtFirstWord(chat));
      };
      await engine.upgrade({ policy: "turn-boundary", onPrepared });
      await expectLlmError(Promise.reject(await answer), "disposed");
      return [await last(engine)];
    });
    const whole = await withChats(async (engine) => {
      await engine.upgrade();
      return [await last(engine)];
    });
    expect(texts).toEqual(whole);
  });

  async function disposeAtFirstWord(chat: Chat): Promise<void> {
    for await (const _ of chat.send("And then", PLAIN)) chat.dispose();
  }
});

describe("delivery that is paused", () => {
  test("begins no read until it is resumed, and then brings all", async () => {
    await upgrades.withEngine(async ({ engine, files, events }) => {
      const before = await upgrades.look(engine);
      let reads = 0;
      files.onRead = () => {
        if (++reads === 1) engine.pauseDelivery();
      };
      engine.resumeDelivery();
      await vi.waitFor(() => expect(reads).toBeGreaterThanOrEqual(1));
      await settled();
      const readsWhenPaused = reads;
      await settled();
      expect(reads).toBe(readsWhenPaused);
      const { logitBits } = await upgrades.look(engine);
      expect(logitBits).toEqual(before.logitBits);
      engine.resumeDelivery();
      await engine.complete;
      expect(reads).toBeGreaterThan(readsWhenPaused);
      await upgrades.expectLands(engine);
      expect(events.filter(({ type }) => type === "delivery-paused" || type === "delivery-resumed").length).toBe(2);
    });
  });

  test("before it begins reads nothing, and can be called off", async () => {
    await upgrades.withEngine(async ({ engine, files }) => {
      const before = await upgrades.look(engine);
      let reads = 0;
      files.onRead = () => {
        reads++;
      };
      engine.pauseDelivery();
      const abort = new AbortController();
      const upgrade = engine.upgrade({ signal: abort.signal });
      await settled();
      abort.abort(ENOUGH);
      expect(await reasonOf(upgrade)).toBe(ENOUGH);
      expect(reads).toBe(0);
      expect(await upgrades.look(engine)).toEqual(before);
      engine.resumeDelivery();
      await engine.complete;
      await upgrades.expectLands(engine);
    });
  });

  test("that failed is tried again by resuming", async () => {
    await upgrades.withEngine(async ({ engine, files, events }) => {
      files.onRead = () => {
        throw ENOUGH;
      };
      expect(await reasonOf(engine.upgrade())).toBe(ENOUGH);
      expect(await reasonOf(engine.complete)).toBe(ENOUGH);
      files.onRead = () => undefined;
      engine.resumeDelivery();
      await engine.complete;
      await upgrades.expectLands(engine);
      expect(failuresTold(events)).toEqual([[1, ENOUGH]]);
    });
  });
});

function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 50));
}
