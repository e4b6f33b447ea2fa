// Sees to it that the tests find a Chromium.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { findChromium } from "../tests/support/chromium";

/** Installs Chromium where it is missing: Debian's own as root on Debian, else Playwright's. @returns whether there is one now. */
export function ensureChromium(): boolean {
  if (findChromium()) return true;
  console.log("No Chromium found: installing one.");
  const isRoot = process.getuid?.() === 0;
  // Ubuntu's package `chromium` is only a pointer to a snap.
  const isDebian = existsSync("/etc/os-release") && /^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8"));
  if (isRoot && isDebian) {
    run("apt-get", ["update"]);
    // libvulkan1: the Vulkan loader, which Dawn needs and chromium does not bring.
    run("apt-get", ["install", "-y", "--no-install-recommends", "chromium", "libvulkan1"]);
  }
  if (!findChromium()) {
    run("npx", ["--no-install", "playwright", "install", "chromium"]);
    if (isRoot) run("npx", ["--no-install", "playwright", "install-deps", "chromium"]);
  }
  if (findChromium()) return true;
  console.error(
    "Chromium could not be installed. Install Chromium or Chrome 113 or later yourself, and set CHROMIUM to its executable if the tests do not find it.",
  );
  return false;
}

function run(command: string, args: readonly string[]): void {
  spawnSync(command, args, {
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
  });
}
