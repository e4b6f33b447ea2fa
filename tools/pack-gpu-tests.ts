// Packs the part of node_modules that `npm run test:gpu` needs into .gpu-tests/, for a Linux machine with a GPU that has Node but no registry:
//   here     node tools/run.mjs tools/pack-gpu-tests.ts
//   there    tar -xJf .gpu-tests/node_modules.tar.xz && CHROMIUM=… node node_modules/vitest/vitest.mjs run --project gpu
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, statSync } from "node:fs";

interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
}

// What the suite runs on and what the sources under test import. Types, linter, compiler and Dawn stay behind.
const ROOTS = ["vite", "vitest", "@vitest/browser-playwright", "@huggingface/jinja", "@huggingface/tokenizers", "fast-check"];
const ARCHIVE = ".gpu-tests/node_modules.tar.xz";
const NATIVE = "@rolldown/binding-linux-x64-gnu";
// One copy to such a machine may hold some 64 MB, of which the sources need their share.
const MAX_BYTES = 40_000_000;

const { packages } = JSON.parse(readFileSync("package-lock.json", "utf8")) as { packages: Readonly<Record<string, LockedPackage>> };
if (!existsSync(`node_modules/${NATIVE}`)) fail(`node_modules/${NATIVE} is missing: pack on Linux with an x64 processor, after npm ci.`);

const chosen = new Set<string>();
for (const root of ROOTS) add(`node_modules/${root}`);

mkdirSync(".gpu-tests", { recursive: true });
// Source maps and declarations are half of the bytes and nothing reads them there.
const { status } = spawnSync("tar", ["--exclude=*.map", "--exclude=*.d.ts", "--exclude=*.d.mts", "-cJf", ARCHIVE, ...[...chosen].sort()], {
  stdio: "inherit",
  env: { ...process.env, XZ_OPT: "-T0 -6" },
});
if (status !== 0) fail("tar failed.");
const { size } = statSync(ARCHIVE);
console.log(`${ARCHIVE}: ${chosen.size} packages, ${size.toLocaleString("en")} bytes`);
if (size > MAX_BYTES) fail(`that is more than ${MAX_BYTES.toLocaleString("en")}.`);

/** A package that is installed here, and what it needs; what other platforms need is not installed. */
function add(path: string): void {
  const locked = packages[path];
  if (!locked || chosen.has(path) || !existsSync(path)) return;
  chosen.add(path);
  const needed = { ...locked.dependencies, ...locked.optionalDependencies, ...locked.peerDependencies };
  for (const name of Object.keys(needed)) {
    const nested = `${path}/node_modules/${name}`;
    add(packages[nested] ? nested : `node_modules/${name}`);
  }
}

function fail(message: string): never {
  console.error(`pack-gpu-tests: ${message}`);
  process.exit(1);
}
