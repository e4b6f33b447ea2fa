// Firefox, whose WebGPU is wgpu: the reference's logits, a decode that its poll does not hold up, and the page's first answer and upgrade.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tinyRepository } from "../e2e/tiny-repository";
import { type HubServer, startHub } from "../support/hub-server";
import { planFile } from "../support/stage-plans";
import { Firefox, findFirefox } from "./firefox";
import { expectGoldenRun, type GoldenRun, readGoldenCase } from "./golden-case";
import { type ServedRepository, serveRepository } from "./served-repository";

const executable = findFirefox();
const REASON = executable ? "" : " (skipped: there is no Firefox; set FIREFOX to one)";

describe.skipIf(!executable)(`Firefox${REASON}`, () => {
  let firefox: Firefox;
  let repository: ServedRepository;

  beforeAll(async () => {
    repository = await serveRepository();
    firefox = await Firefox.launch(executable ?? "");
  });

  afterAll(async () => {
    await firefox?.close();
    repository?.close();
  });

  test("the logits and greedy ids of llama-gqa are the reference's, and empty submits keep its poll from holding decode up", async () => {
    const golden = await readGoldenCase();
    await firefox.open(`${repository.origin}/blank.html`);
    const { origin } = repository;
    const run = await firefox.call<GoldenRun>(`${origin}/tests/wgpu/golden-run.js`, "runGolden", origin, golden.ids, golden.greedy.length);
    expectGoldenRun(run, golden);
    // Else four tokens come at each of its looks. Once Firefox tells of finished work at once, gpu/completion has no use any more.
    expect(run.emptySubmits).toBeGreaterThan(golden.greedy.length);
  });

  describe("the page", () => {
    let hub: HubServer;

    beforeAll(async () => {
      hub = await startHub();
      for (const { name, buffer } of tinyRepository()) hub.put(`somebody/tiny/${name}`, buffer);
      const plan = planFile([{ layers: [0, 1, 5] }, { layers: [0, 1, 2, 3, 4, 5] }]);
      hub.put("somebody/tiny/progressive.json", Buffer.from(JSON.stringify(plan)));
    });

    afterAll(() => hub?.close());

    test("answers, and ends with the whole model", async () => {
      const query = new URLSearchParams({ hub: hub.url, model: "somebody/tiny" });
      await firefox.open(`${repository.origin}/dist-demo/?${query}`);
      const said = await firefox.run(askOnPage, "Hello", ["The whole model is here", "all 6 layers"]);
      expect(said.trouble).toBe("");
      expect(said.answer).toMatch(/\d+ tokens/);
    });
  });
});

/** Runs in the page: asks when it can, waits for the answer's figures and for one of `landed` in the text of its stages. */
async function askOnPage(question: string, landed: readonly string[]): Promise<{ readonly answer: string; readonly trouble: string }> {
  const text = (selector: string) => document.querySelector(selector)?.textContent ?? "";
  const until = async (holds: () => boolean) => {
    while (!holds() && text("[role=alert]") === "") await new Promise((resolve) => setTimeout(resolve, 50));
  };
  const message = document.querySelector("textarea") as HTMLTextAreaElement;
  await until(() => message.placeholder === "Write a message");
  message.value = question;
  message.dispatchEvent(new Event("input", { bubbles: true }));
  (document.querySelector("#send") as HTMLButtonElement).click();
  const answer = () => text('[aria-label="Answer"]');
  await until(() => /\d+ tokens/.test(answer()));
  await until(() => landed.some((words) => text("#stages").includes(words)));
  return { answer: answer(), trouble: text("[role=alert]") };
}
