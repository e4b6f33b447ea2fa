// Does to engines, for as long as it is told, whatever an application and its user's machine may do to them:
//   npm run soak -- --operations 10000 --minutes 60 --seed 1
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { nodeGpuEnvironment } from "../tests/support/node-gpu";

const USAGE = `usage: npm run soak -- [options]
  --operations N   how many (default 1000)
  --minutes N      at most so long
  --seed S         one seed, one sequence of operations (default: drawn)
  --only FROM-TO   of the sequence only these, to replay a fault
  --patience N     seconds after which an open promise hangs (default 60)
  --all            faults that are known to stand count too`;

/** Dawn finds the adapter through the environment that its process starts with. */
const CHILD = "CRESCENDO_SOAK_CHILD";

if (process.env[CHILD]) process.exit(await run());
const { status } = spawnSync(process.execPath, ["tools/run.mjs", "tools/soak.ts", ...process.argv.slice(2)], {
  stdio: "inherit",
  env: { ...process.env, ...nodeGpuEnvironment(), [CHILD]: "1" },
});
process.exit(status ?? 1);

async function run(): Promise<number> {
  const { values } = parseArgs({
    options: {
      ...{ operations: { type: "string" }, minutes: { type: "string" }, seed: { type: "string" }, only: { type: "string" } },
      ...{ patience: { type: "string" }, all: { type: "boolean" }, help: { type: "boolean" } },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  await import("../tests/support/dawn-setup");
  const { soak } = await import("../tests/soak/soak");
  const seed = values.seed ?? String(Math.floor(Math.random() * 1e9));
  const [first = 0, last] = values.only?.split("-").map(Number) ?? [];
  const result = await soak({
    seed,
    first,
    operations: last === undefined ? Number(values.operations ?? 1000) : last - first + 1,
    ...(values.minutes && { minutes: Number(values.minutes) }),
    ...(values.patience && { patienceMs: 1000 * Number(values.patience) }),
    ...(values.all && { known: [] }),
    onLine: console.log,
  });
  for (const [fault, count] of result.known) console.log(`known: ${fault}, seen ${count} times`);
  console.log(`${result.operations} operations, seed ${seed}, ${result.seconds.toFixed(0)} s, ${result.faults.length} faults`);
  return result.faults.length > 0 ? 1 : 0;
}
