import { expect, test } from "@playwright/test";

test("a visitor asks what a product takes, and gets a table and the JSON to copy", async ({ page }) => {
  await page.goto("/dist-demo/bench/index.html");
  await page.getByLabel("Question").selectOption("gemv");
  await page.getByLabel("Options").fill('{"formats":["q4m"],"shapes":[[1024,1024]]}');
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByRole("button", { name: "Copy as JSON" })).toBeVisible({ timeout: 60_000 });
  const [cells] = await page.getByRole("table").last().getByRole("row").nth(1).getByRole("cell").allTextContents();
  expect(cells).toBe("q4m");
  const { gemv } = JSON.parse((await page.locator("#json").textContent()) ?? "");
  expect(gemv).toMatchObject([{ format: "q4m", rows: 1024, columns: 1024 }]);
  expect(gemv[0].error).toBeLessThan(1e-5);
});

test("a question that cannot be answered says why", async ({ page }) => {
  await page.goto("/dist-demo/bench/index.html");
  await page.getByLabel("Model").fill("synthetic:none");
  await page.getByRole("button", { name: "Run" }).click();
  await expect(page.getByRole("status")).toContainText("synthetic:llama-3.1-8b");
});
