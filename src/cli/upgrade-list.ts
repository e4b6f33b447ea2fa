// Reads --upgrade and --stage, and checks them against the stages of the plan.
import { UsageError } from "./usage";

export interface NamedUpgrade {
  readonly stage: string;
  /** Number of ids fed before the upgrade. */
  readonly at: number;
}

export interface IndexedUpgrade {
  /** Index of the plan's stage. */
  readonly stage: number;
  readonly at: number;
}

/** Parses `S@N[,T@M…]`. A name may contain commas and at signs: it ends at the first "@" followed by a number and a comma or the end. */
export function parseUpgradeList(text: string): NamedUpgrade[] {
  const entry = /(.+?)@(\d+)(?:,(?=.)|$)/suy;
  const upgrades: NamedUpgrade[] = [];
  while (entry.lastIndex < text.length) {
    const start = entry.lastIndex;
    const [, stage, at] = entry.exec(text) ?? [];
    if (stage === undefined) throw new UsageError(`--upgrade has "${text.slice(start)}", not STAGE@N[,STAGE@N…]`);
    upgrades.push({ stage, at: Number(at) });
  }
  if (upgrades.length === 0) throw new UsageError("--upgrade is empty, not STAGE@N[,STAGE@N…]");
  return upgrades;
}

/** @throws UsageError that lists the existing stages. */
export function stageIndex(flag: string, name: string, names: readonly string[]): number {
  const index = names.indexOf(name);
  if (index >= 0) return index;
  const hint = names.length === 1 ? ". --plan names a plan with several" : "";
  throw new UsageError(
    `${flag}: the plan has no stage ${JSON.stringify(name)}, but ${names.map((each) => JSON.stringify(each)).join(", ")}${hint}`,
  );
}

/** @throws UsageError unless stages rise from after the plan's first one, and numbers of ids rise within the ids. */
export function indexUpgrades(
  upgrades: readonly NamedUpgrade[],
  { names, idCount }: { readonly names: readonly string[]; readonly idCount: number },
): IndexedUpgrade[] {
  let before: IndexedUpgrade & { readonly words: string } = {
    stage: 0,
    at: -1,
    words: `the plan's first stage, ${JSON.stringify(names[0])}`,
  };
  return upgrades.map(({ stage: name, at }) => {
    const stage = stageIndex("--upgrade", name, names);
    const words = `${name}@${at}`;
    if (at >= idCount) throw new UsageError(`--upgrade ${words}: there are ${idCount} ids, so N is at most ${idCount - 1}`);
    if (stage <= before.stage) throw new UsageError(`--upgrade ${words} comes after ${before.words}; stages must rise in the plan's order`);
    if (at <= before.at) throw new UsageError(`--upgrade ${words} comes after ${before.words}; the numbers of ids must rise`);
    before = { stage, at, words };
    return { stage, at };
  });
}
