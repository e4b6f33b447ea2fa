// What a soak does. Each operation draws what it needs from the world's generator, so that one seed gives one sequence of them; what it
// meets depends on how far the ones before have come.
import type { AnswerOptions, KvCarry, UpgradePolicy } from "../../src/index";
import { ChatSnapshot } from "../../src/index";
import { pick } from "./phases";
import { quiet } from "./quiet";
import { LINK_FAULTS, type LinkFault } from "./soak-link";
import { GREEDY, Talk } from "./talk";
import { TALK_COUNT, type World } from "./world";

export interface Operation {
  readonly name: string;
  /** How often it comes, next to the others. */
  readonly weight: number;
  /** Begins it, and says what it did; what takes longer goes on in the background. */
  run(world: World): string | Promise<string>;
}

const MESSAGES = ["And then?", "So", "Tell me of the sea", "a", "Why is that, and since when?", "123 45"] as const;
const POLICIES = ["background", "turn-boundary", "blocking"] as const satisfies readonly UpgradePolicy[];
const CARRIES = ["keep", "restore", "recompute"] as const satisfies readonly KvCarry[];

const send: Operation = {
  name: "send",
  weight: 30,
  run(world) {
    const { slot, message, options } = drawQuestion(world);
    world.talkIn(slot).ask(world, message, options);
    return `chat ${slot}, ${optionsText(options)}`;
  },
};

const sendTwice: Operation = {
  name: "send twice",
  weight: 4,
  run(world) {
    const { slot, message, options } = drawQuestion(world);
    const talk = world.talkIn(slot);
    talk.ask(world, message, options);
    talk.ask(world, "And then?", { ...GREEDY, maxTokens: 3 });
    return `chat ${slot}, ${optionsText(options)}`;
  },
};

const sendAndAbort: Operation = {
  name: "send and abort",
  weight: 10,
  run(world) {
    const { slot, message, options } = drawQuestion(world);
    const abortAfter = world.random.integer(6);
    world.talkIn(slot).ask(world, message, options, { abortAfter });
    return `chat ${slot}, ${optionsText(options)}, aborted after ${abortAfter}`;
  },
};

const sendAndLeave: Operation = {
  name: "send and leave",
  weight: 4,
  run(world) {
    const { slot, message, options } = drawQuestion(world);
    const leaveAfter = world.random.integer(6);
    world.talkIn(slot).ask(world, message, options, { leaveAfter });
    return `chat ${slot}, ${optionsText(options)}, left after ${leaveAfter}`;
  },
};

const generateIds: Operation = {
  name: "generate ids",
  weight: 4,
  run(world) {
    const ids = [...world.random.ids(1 + world.random.integer(40), 500)].map((id) => id + 3);
    const maxTokens = 1 + world.random.integer(6);
    const ending = new AbortController();
    const isAborted = world.random.next() < 0.3;
    const { engine } = world;
    const generation = engine.generateIds(ids, { ...GREEDY, maxTokens, signal: ending.signal }).then((result) => {
      if (result.ids.length !== maxTokens) world.fault(`generateIds gave ${result.ids.length} of ${maxTokens} tokens`);
      if (engine === world.engine) world.spoken.push({ ids: [...ids, ...result.ids], start: ids.length, stages: result.stages });
    });
    world.track("generateIds", generation, { signal: ending.signal });
    if (isAborted) abortSoon(world, ending);
    return `${ids.length} ids, ${maxTokens} tokens${isAborted ? ", aborted" : ""}`;
  },
};

const upgrade: Operation = {
  name: "upgrade",
  weight: 6,
  run(world) {
    const { engine, lastStage, random } = world;
    const stage = Math.min(lastStage, engine.stage.index + 1 + random.integer(2));
    const [policy, carry] = [pick(random, POLICIES), pick(random, CARRIES)];
    world.track(`the upgrade to stage ${stage}`, engine.upgrade({ stage, policy, carry }));
    return `to stage ${stage}, ${policy}, ${carry}`;
  },
};

const upgradeAndAbort: Operation = {
  name: "upgrade and abort",
  weight: 5,
  run(world) {
    const { engine, lastStage, random } = world;
    const stage = Math.min(lastStage, engine.stage.index + 1 + random.integer(2));
    const policy = pick(random, POLICIES);
    const ending = new AbortController();
    const { signal } = ending;
    world.track(`the upgrade to stage ${stage}`, engine.upgrade({ stage, policy, signal }), { signal });
    abortSoon(world, ending);
    return `to stage ${stage}, ${policy}`;
  },
};

const upgradeTooFar: Operation = {
  name: "upgrade too far",
  weight: 1,
  run(world) {
    world.track("an upgrade past the last stage", expectFailure(world.engine.upgrade({ stage: world.lastStage + 3 })), {
      provoked: ["bad-request"],
    });
    return `to stage ${world.lastStage + 3}`;
  },
};

const pause: Operation = {
  name: "pause",
  weight: 2,
  run(world) {
    world.engine.pauseDelivery();
    world.isPaused = true;
    return "";
  },
};

const resume: Operation = {
  name: "resume",
  weight: 3,
  run(world) {
    if (!world.isPaused) return "nothing was paused";
    world.engine.resumeDelivery();
    world.isPaused = false;
    return "";
  },
};

const snapshot: Operation = {
  name: "snapshot",
  weight: 6,
  run(world) {
    const slot = world.random.integer(TALK_COUNT);
    const [asBytes, isAborted] = [world.random.next() < 0.4, world.random.next() < 0.2];
    const talk = world.talkIn(slot);
    const ending = new AbortController();
    const take = async () => {
      const taken = await talk.chat.snapshot({ signal: ending.signal });
      world.keepSnapshot(asBytes ? await ChatSnapshot.fromBytes(taken.toBytes()) : taken);
    };
    world.track(`the snapshot of chat ${slot}`, take(), { signal: ending.signal, isGone: () => talk.isGone });
    if (isAborted) abortSoon(world, ending);
    return `chat ${slot}${asBytes ? ", as bytes" : ""}${isAborted ? ", aborted" : ""}`;
  },
};

const brokenBytes: Operation = {
  name: "broken bytes",
  weight: 1,
  run(world) {
    const bytes = world.snapshots.at(-1)?.toBytes();
    if (!bytes) return "there is no snapshot";
    const end = world.random.integer(bytes.length);
    world.track("a snapshot cut short", expectFailure(ChatSnapshot.fromBytes(bytes.slice(0, end))), {
      provoked: ["bad-file", "bytes-truncated"],
    });
    return `${end} of ${bytes.length}`;
  },
};

const restore: Operation = {
  name: "restore",
  weight: 5,
  run: (world) => restoreInto(world, 1),
};

const clone: Operation = {
  name: "clone",
  weight: 3,
  run: (world) => restoreInto(world, 2),
};

const disposeChat: Operation = {
  name: "dispose chat",
  weight: 4,
  run(world) {
    const slot = world.random.integer(TALK_COUNT);
    world.seat(slot, null);
    return `chat ${slot}`;
  },
};

const replaceEngine: Operation = {
  name: "replace engine",
  weight: 1.5,
  async run(world) {
    world.link.mend(); // a load is to fail elsewhere
    await world.replaceEngine();
    return "";
  },
};

const loseDevice: Operation = {
  name: "lose device",
  weight: 0.5,
  async run(world) {
    await world.loseDevice();
    return "";
  },
};

const cutLink: Operation = {
  name: "cut link",
  weight: 2,
  run(world) {
    const fault = LINK_FAULTS[world.random.integer(LINK_FAULTS.length)] as LinkFault;
    world.link.cut(fault);
    return `it ${fault}`;
  },
};

const mendLink: Operation = {
  name: "mend link",
  weight: 4,
  run(world) {
    world.link.mend();
    return "";
  },
};

const evaluate: Operation = {
  name: "evaluate",
  weight: 2,
  run(world) {
    const ids = [...world.random.ids(1 + world.random.integer(60), 500)].map((id) => id + 3);
    const { vocabSize } = world.engine.config;
    let rows = 0;
    const onLogits = (_: number, logits: Float32Array) => {
      rows += logits.length / vocabSize;
    };
    const evaluation = world.engine.evaluate({ ids, onLogits }).then(() => {
      if (rows !== ids.length) world.fault(`an evaluation of ${ids.length} ids gave ${rows} rows`);
    });
    world.track("evaluate", evaluation);
    return `${ids.length} ids`;
  },
};

const quietPoint: Operation = {
  name: "quiet",
  weight: 2,
  async run(world) {
    await quiet(world);
    return `stage ${world.engine.stage.index}`;
  },
};

export const OPERATIONS: readonly Operation[] = [
  ...[send, sendTwice, sendAndAbort, sendAndLeave, generateIds, evaluate],
  ...[upgrade, upgradeAndAbort, upgradeTooFar, pause, resume],
  ...[snapshot, brokenBytes, restore, clone, disposeChat, replaceEngine],
  ...[loseDevice, cutLink, mendLink, quietPoint],
];

/** By weight. */
export function chooseOperation(operations: readonly Operation[], share: number): Operation {
  let left = share * operations.reduce((total, { weight }) => total + weight, 0);
  for (const operation of operations) {
    left -= operation.weight;
    if (left < 0) return operation;
  }
  return operations[0] ?? quietPoint;
}

function drawQuestion({ random }: World): { readonly slot: number; readonly message: string; readonly options: AnswerOptions } {
  const slot = random.integer(TALK_COUNT);
  const message = pick(random, MESSAGES);
  const maxTokens = 1 + random.integer(10);
  const kind = random.next();
  if (kind < 0.7) return { slot, message, options: { ...GREEDY, maxTokens } };
  const drawn = { ...GREEDY, temperature: 1.2, seed: random.integer(1000), maxTokens };
  if (kind < 0.8) return { slot, message, options: { ...drawn, stop: ["e", "th"] } };
  return { slot, message, options: { ...drawn, topK: 20, presencePenalty: 0.5 } };
}

function optionsText({ temperature, maxTokens, stop }: AnswerOptions): string {
  return [temperature === 0 ? "greedy" : "drawn", `${maxTokens} tokens`, ...(stop ? ["with stop strings"] : [])].join(", ");
}

/** At once, within some milliseconds or at somebody's next token. */
function abortSoon({ random }: World, ending: AbortController): void {
  const reason = new Error("the soak called it off");
  const delayMs = [0, 1, 5, 20, 60][random.integer(5)] ?? 0;
  if (delayMs === 0) ending.abort(reason);
  else setTimeout(() => ending.abort(reason), delayMs);
}

/** Puts a chat that goes on from a snapshot into so many slots. */
function restoreInto(world: World, count: number): string {
  const rested = world.snapshots[world.random.integer(world.snapshots.length)];
  const slots = Array.from({ length: count }, () => world.random.integer(TALK_COUNT));
  const asBytes = world.random.next() < 0.3;
  if (!rested) return "there is no snapshot";
  const { engine } = world;
  for (const slot of new Set(slots)) {
    const restored = engine.restoreChat(asBytes ? rested.toBytes() : rested).then((chat) => {
      if (engine === world.engine) world.seat(slot, new Talk(chat));
    });
    world.track(`a chat's restoration in slot ${slot}`, restored);
  }
  return `into ${slots.join(" and ")}${asBytes ? " from bytes" : ""}`;
}

/** Rejects as the promise does, and where that succeeds. */
async function expectFailure(promise: Promise<unknown>): Promise<never> {
  await promise;
  throw new Error("it succeeded");
}
