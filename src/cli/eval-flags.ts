// Reads the flags of `crescendo eval` and checks them against each other.
import { parseArgs } from "node:util";
import type { KvCarry, UpgradePolicy } from "../index";
import { parseChoice, parseCount } from "./flag-values";
import { MODEL_OPTIONS, type ModelFlags } from "./local-model";
import { type NamedUpgrade, parseUpgradeList } from "./upgrade-list";
import { UsageError } from "./usage";

export interface EvalRequest {
  readonly model: ModelFlags;
  readonly input: { readonly type: "ids" | "text"; readonly path: string };
  readonly chunk: number;
  readonly hidden: boolean;
  /** File to write the logits to. */
  readonly out: string | null;
  /** File of logits to compare with. */
  readonly against: string | null;
  /** null: the plan's last stage, unless there are upgrades. */
  readonly stage: string | null;
  readonly upgrades: readonly NamedUpgrade[];
  readonly policy: UpgradePolicy;
  readonly carry: KvCarry;
}

const DEFAULT_CHUNK = "256";
const POLICIES: readonly UpgradePolicy[] = ["background", "blocking", "turn-boundary"];
const CARRIES: readonly KvCarry[] = ["keep", "restore", "recompute"];

/** @throws UsageError */
export function parseEvalFlags(args: string[]): EvalRequest {
  const flags = parseEvalArgs(args);
  const { out = null, against = null, stage = null, hidden = false } = flags;
  const chunk = parseCount("--chunk", flags.chunk ?? DEFAULT_CHUNK);
  if (chunk < 1) throw new UsageError("--chunk is 0");
  const input = parseInput(flags);
  if (input.type === "ids" && out === null && against === null) throw new UsageError("--ids requires --out, --against or both");
  if (hidden && out === null) throw new UsageError("--hidden requires --out");
  if (stage !== null && flags.upgrade !== undefined)
    throw new UsageError("--stage stays at one stage and --upgrade passes through several: use one of them");
  return { model: { plan: "whole", ...flags }, input, chunk, hidden, out, against, stage, ...parseUpgradeFlags(flags) };
}

type EvalFlags = ReturnType<typeof parseEvalArgs>;

function parseInput({ ids, text }: EvalFlags): EvalRequest["input"] {
  if (ids !== undefined && text !== undefined) throw new UsageError("eval takes --ids or --text, not both");
  if (ids !== undefined) return { type: "ids", path: ids };
  if (text !== undefined) return { type: "text", path: text };
  throw new UsageError("eval takes --ids with --out or --against, or --text");
}

function parseUpgradeFlags({ upgrade, policy, carry }: EvalFlags): Pick<EvalRequest, "upgrades" | "policy" | "carry"> {
  const flags = { "--policy": policy, "--carry": carry };
  const [orphan] = Object.entries(flags).find(([, value]) => value !== undefined) ?? [];
  if (upgrade === undefined && orphan !== undefined) throw new UsageError(`${orphan} requires --upgrade`);
  const upgrades = upgrade === undefined ? [] : parseUpgradeList(upgrade);
  const parsed = {
    policy: parseChoice("--policy", policy ?? "blocking", POLICIES),
    carry: parseChoice("--carry", carry ?? "keep", CARRIES),
  };
  if (parsed.policy === "turn-boundary" && upgrades.length > 1) {
    throw new UsageError("--policy turn-boundary allows one upgrade at most: the next stage takes over after all ids are fed");
  }
  return { upgrades, ...parsed };
}

function parseEvalArgs(args: string[]) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        ...MODEL_OPTIONS,
        ids: { type: "string" },
        out: { type: "string" },
        hidden: { type: "boolean" },
        text: { type: "string" },
        chunk: { type: "string" },
        stage: { type: "string" },
        upgrade: { type: "string" },
        policy: { type: "string" },
        carry: { type: "string" },
        against: { type: "string" },
      },
    });
    return values;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}
