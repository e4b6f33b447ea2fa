// The values of flags, as numbers and choices.
import { UsageError } from "./usage";

export function parseCount(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < 0) throw new UsageError(`${flag} is ${text}, not a whole number`);
  return value;
}

export function parseNumber(flag: string, text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new UsageError(`${flag} is ${text}, not a number`);
  return value;
}

export function parseChoice<Choice extends string>(flag: string, text: string, choices: readonly Choice[]): Choice {
  const choice = choices.find((each) => each === text);
  if (choice === undefined) throw new UsageError(`${flag} is ${text}, not ${choices.join(" or ")}`);
  return choice;
}
