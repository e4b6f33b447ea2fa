#!/usr/bin/env node
// The `crescendo` command: evaluates and runs models in Node, with the same engine as the browser.
import { LlmError } from "../errors";
import { evalCommand } from "./eval";
import { runCommand } from "./run";
import { EVAL_USAGE, RUN_USAGE, UsageError } from "./usage";

const COMMANDS: Readonly<Record<string, (args: string[]) => Promise<void>>> = { eval: evalCommand, run: runCommand };

const [name = "", ...args] = process.argv.slice(2);
const command = COMMANDS[name];
try {
  if (!command) throw new UsageError(name === "" || name === "--help" ? "" : `unknown command "${name}"`);
  await command(args);
  // Dawn keeps the process alive while its instance lives.
  process.exit(0);
} catch (error) {
  if (error instanceof UsageError) {
    if (error.message) console.error(`crescendo: ${error.message}\n`);
    console.error(`${RUN_USAGE}\n\n${EVAL_USAGE}`);
    process.exit(2);
  }
  if (!(error instanceof LlmError)) throw error;
  console.error(`crescendo: ${error.message}`);
  process.exit(1);
}
