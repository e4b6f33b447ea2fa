// Which tests a run was asked for, and why some of them did not run. What a name or a tag leaves out counts as skipped in Vitest, not here.
import type { TestCase, Vitest } from "vitest/node";

/** Filters of more than one tag are not read. */
export function isAskedFor({ config }: Vitest): (test: TestCase) => boolean {
  const { testNamePattern, tagsFilter } = config;
  const isNamed = (test: TestCase) => !testNamePattern || testNamePattern.test(test.fullName);
  const isTagged = (test: TestCase) => !tagsFilter || tagsFilter.every((tag) => test.tags.includes(tag));
  return (test) => isNamed(test) && isTagged(test);
}

/** Why a test was skipped. */
export function skipReason(test: TestCase): string {
  const result = test.result();
  return (result.state === "skipped" ? result.note : undefined) ?? test.meta().skipReason ?? "no reason given";
}
