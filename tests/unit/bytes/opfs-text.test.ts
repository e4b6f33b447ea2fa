import { expect, test } from "vitest";
import { OpfsText } from "../../../src/bytes/opfs-text";
import { expectLlmError } from "../../support/expect-llm-error";
import { MemoryDirectory } from "../../support/memory-directory";

test("a text is read as it was written last, and is null before", async () => {
  const directory = new MemoryDirectory();
  const text = () => new OpfsText("notes.json", async () => directory.handle);
  expect(await text().read()).toBeNull();
  await text().write("first");
  await text().write("größer");
  expect(await text().read()).toBe("größer");
});

test("a full disk leaves what was there", async () => {
  const directory = new MemoryDirectory();
  const text = new OpfsText("notes.json", async () => directory.handle);
  await text.write("first");
  directory.disk.failure = new DOMException("full", "QuotaExceededError");
  await expect(text.write("second")).rejects.toThrow("full");
  expect(await text.read()).toBe("first");
});

test("without OPFS both fail, saying so", async () => {
  await expectLlmError(new OpfsText("notes.json").read(), "unsupported");
  await expectLlmError(new OpfsText("notes.json").write(""), "unsupported");
});
