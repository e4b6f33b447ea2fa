// A quiet point: everything that is open comes to its end, and what then is there is held against engines to which nothing was done.
import type { ChatSnapshot } from "../../src/index";
import {
  alternationFaults,
  type Decode,
  greedyFaults,
  growthFaults,
  type MessageSpan,
  memoryFaults,
  messageSpans,
  transcriptFaults,
} from "./invariants";
import { FORBIDDEN, GREEDY, type HeardAnswer, type Talk } from "./talk";
import { sleep, type World } from "./world";

/** An upgrade may cut positions otherwise than the first computation did, and decode sums in another order than prefill. */
const MARGIN = 2e-3;
const SCRATCH_BYTES = 256 * 1024;
const HIDDEN_BYTES = 64 * 4;
const ROW_BYTES = 2 * HIDDEN_BYTES; // of embedding and head
const SAFETY_COPY_MS = 5_000;

export async function quiet(world: World): Promise<void> {
  await world.buryDead();
  world.link.mend();
  if (world.isPaused) {
    world.engine.resumeDelivery();
    world.isPaused = false;
  }
  // Its failure was told to who asked.
  world.track(
    "engine.complete",
    world.engine.complete.catch(() => undefined),
  );
  world.track("a token", world.engine.generateIds([3], { temperature: 0, maxTokens: 1 })); // there when a lost device is replaced
  await world.settle();
  await world.buryDead();
  const [error, ...more] = await world.gpu.takeErrors();
  if (error) world.fault(`GPU error that nobody caught, the first of ${1 + more.length}: ${error}`);
  for (const talk of world.talks) {
    // One in five of those that said nothing since.
    if (talk && !talk.isGone && (talk.heard.length > 0 || world.random.next() < 0.2)) await checkTalk(world, talk);
  }
  for (const { ids, start, stages } of world.spoken.splice(0)) {
    const faults = await tokenFaults(logitsByStage(world, ids), ids, start, stages);
    for (const fault of faults) world.fault(`generateIds: ${fault}`);
  }
  await goOn(world);
  if (world.random.next() < 0.3) await endTalks(world);
  await checkMemory(world);
}

/** What was kept for chats alone goes with them. */
async function endTalks(world: World): Promise<void> {
  for (const slot of world.talks.keys()) world.seat(slot, null);
  world.track("a token without chats", world.engine.generateIds([3], { temperature: 0, maxTokens: 1 }));
  await world.settle();
}

/** One of the chats says a little more, alone. */
async function goOn(world: World): Promise<void> {
  const slot = world.random.integer(world.talks.length);
  const talk = world.talkIn(slot);
  talk.ask(world, "So", { ...GREEDY, maxTokens: 4 });
  await world.settle();
  await checkTalk(world, talk);
}

async function checkTalk(world: World, talk: Talk): Promise<void> {
  const { messages } = talk.chat;
  const snapshot = await takeSnapshot(world, talk);
  if (!snapshot) return;
  const ids = idsOf(snapshot);
  const decode: Decode = (some) => world.engine.tokenizer.decode(some);
  const faults = [
    ...alternationFaults(messages),
    ...transcriptFaults(ids, messages, decode),
    ...growthFaults(talk.ids, ids),
    ...(await heardFaults(world, talk.heard, ids, decode)),
  ];
  for (const fault of faults) world.fault(`chat ${world.talks.indexOf(talk)}: ${fault}`);
  talk.ids = ids;
  talk.heard = [];
}

async function takeSnapshot(world: World, talk: Talk): Promise<ChatSnapshot | null> {
  try {
    return await talk.chat.snapshot();
  } catch (error) {
    world.fault(`a snapshot of an idle chat failed: ${error}`);
    return null;
  }
}

/** The one place that looks into a snapshot. */
export function idsOf(snapshot: ChatSnapshot): readonly number[] {
  return snapshot.kv.ids;
}

/** What was heard is in the conversation, and each token of it is what an engine says that was loaded at the token's stage. */
async function heardFaults(world: World, answers: readonly HeardAnswer[], ids: readonly number[], decode: Decode): Promise<string[]> {
  const spans = messageSpans(ids, decode).filter(({ role }) => role === "assistant");
  const faults: string[] = [];
  const reference = logitsByStage(world, ids);
  let from = spans.length;
  // From the last one back: an answer that said nothing may have left no message.
  for (const heard of answers.toReversed()) {
    const text = heard.deltas.map((delta) => delta.text).join("");
    if (text === "") continue;
    const at = spans.findLastIndex(({ start, end }, index) => index < from && isHeard(heard, text, decode(ids.slice(start, end))));
    const span = spans[at];
    if (!span) {
      faults.push(`${JSON.stringify(text)} was heard, and is not in the conversation`);
      continue;
    }
    from = at;
    if (!heard.isGreedy) continue;
    faults.push(...(await tokenFaults(reference, ids, span.start, stagesOf(heard, span, ids, decode))));
  }
  return faults;
}

type LogitsAt = (stage: number) => ReturnType<World["references"]["logits"]>;

/** The logits of these ids, computed once a stage. */
function logitsByStage({ references }: World, ids: readonly number[]): LogitsAt {
  const byStage = new Map<number, ReturnType<LogitsAt>>();
  return (stage) => {
    const logits = byStage.get(stage) ?? references.logits(stage, ids);
    byStage.set(stage, logits);
    return logits;
  };
}

/** The greedy tokens from `start` on: of each the stage that gave it, or null where it is not to be told. */
async function tokenFaults(
  logitsAt: LogitsAt,
  ids: readonly number[],
  start: number,
  stages: readonly (number | null)[],
): Promise<string[]> {
  for (const [index, stage] of stages.entries()) {
    if (stage === null) continue;
    const { logits, vocabSize } = await logitsAt(stage);
    const position = start + index;
    const row = logits.subarray((position - 1) * vocabSize, position * vocabSize);
    const wrong = greedyFaults(row, ids[position] ?? -1, FORBIDDEN, MARGIN);
    // What follows a wrong token is another text.
    if (wrong.length > 0)
      return wrong.map((fault) => `at position ${position}, token ${index} of ${stages.length}, stage ${stage}: ${fault}`);
  }
  return [];
}

/** A stop string may cut a token in two: the ids then say less than was heard. */
function isHeard({ isOpenEnded }: HeardAnswer, text: string, said: string): boolean {
  return said === text || (isOpenEnded && (said.startsWith(text) || text.startsWith(said)));
}

/** Of each token of an answer the stage that gave it; null where the deltas do not tell. */
function stagesOf({ deltas }: HeardAnswer, { start, end }: MessageSpan, ids: readonly number[], decode: Decode): (number | null)[] {
  const stageOf: number[] = [];
  for (const { text, stage } of deltas) for (const _ of text) stageOf.push(stage);
  const isOneStage = deltas.every(({ stage }) => stage === deltas[0]?.stage);
  let length = 0;
  return [...ids.slice(start, end)].map((id) => {
    length += [...decode([id])].length;
    const stage = stageOf[length - 1];
    if (stage === undefined) return null;
    return isOneStage || deltas.length === end - start ? stage : null;
  });
}

async function checkMemory(world: World): Promise<void> {
  const { engine, phase } = world;
  const bare = await world.references.bareMemory(engine.stage.index);
  const hasRows = phase.stages.some(({ rows }) => rows !== undefined);
  const hasTalks = world.talks.some((talk) => talk !== null);
  const { poolLength = 0 } = phase.options;
  const allowance = {
    kvBytes: hasTalks ? (phase.stages.length - 1) * poolLength * HIDDEN_BYTES : 0,
    scratchBytes: SCRATCH_BYTES,
    weightBytes: hasRows ? ROW_BYTES * engine.config.vocabSize : 0,
  };
  const faults = () => memoryFaults(engine.memory(), bare, allowance);
  // An upgrade's safety copy goes away by itself, a little later.
  for (let waited = 0; faults().length > 0 && waited < SAFETY_COPY_MS; waited += 50) await sleep(50);
  for (const fault of faults()) world.fault(`at stage ${engine.stage.index}: ${fault}`);
}
