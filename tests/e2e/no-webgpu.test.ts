// Where there is no WebGPU, or no graphics card behind it, the page says what to do, in one place.
import { expect, test } from "@playwright/test";
import { DemoPage } from "./demo-page";

const WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/110.0.0.0 Safari/537.36";

test("a browser without WebGPU gets one sentence that says which ones have it", async ({ page }) => {
  await page.addInitScript((userAgent) => {
    Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined });
    Object.defineProperty(Navigator.prototype, "userAgent", { get: () => userAgent });
  }, WINDOWS);
  const demo = new DemoPage(page);
  await demo.open();
  await expect(demo.error).toHaveText(/^This browser has no WebGPU\. Use Chrome .*\d+ or later/);
  for (const name of ["Try again", "Choose another model"]) await expect(page.getByRole("button", { name })).toBeHidden(); // no help
  await expect(page.getByRole("button", { name: "Send" })).toBeDisabled();
  await expect(page.getByText("Why is the sky blue?")).toBeHidden();
});

test("a browser without a graphics adapter gets one sentence that says what to turn on", async ({ page }) => {
  await page.addInitScript(() => {
    GPU.prototype.requestAdapter = () => Promise.resolve(null);
  });
  const demo = new DemoPage(page);
  await demo.open();
  await expect(demo.error).toHaveText(/^WebGPU is there but found no graphics adapter\. Turn on hardware acceleration/);
  await expect(page.getByRole("button", { name: "Try again" })).toBeVisible();
});
