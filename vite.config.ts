// `vite` serves the demo. `vite build --mode library | cli | demo | bench | bench-node` builds dist/crescendo.js, dist/cli.js, dist-demo/ and dist-bench/.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin, type UserConfig } from "vite";

/** Shaders travel without comments and blank lines. Only in builds: while developing, the compiler's line numbers are the file's. */
function compactWgsl(): Plugin {
  const suffix = ".wgsl?raw";
  return {
    name: "compact-wgsl",
    apply: "build",
    enforce: "pre",
    load(id) {
      if (!id.endsWith(suffix)) return null;
      const lines = readFileSync(id.slice(0, -"?raw".length), "utf8").split("\n");
      const code = lines.map((line) => line.replace(/\/\/.*/, "").trim()).filter((line) => line !== "");
      return `export default ${JSON.stringify(code.join("\n"))};`;
    },
  };
}

function wholePath(path: string): string {
  return fileURLToPath(new URL(path, import.meta.url));
}

const SHARED: UserConfig = {
  plugins: [compactWgsl()],
  worker: { format: "es", plugins: () => [compactWgsl()] },
};

/** One ES module with everything inside, for a page without a bundler. */
const LIBRARY: UserConfig = {
  ...SHARED,
  publicDir: false,
  build: {
    target: "es2022",
    emptyOutDir: false,
    lib: { entry: "src/index.ts", formats: ["es"], fileName: () => "crescendo.js" },
    rolldownOptions: { output: { minify: true, codeSplitting: false } },
  },
};

const CLI: UserConfig = {
  ...SHARED,
  publicDir: false,
  // `webgpu` is Dawn's native module: an optional peer, never bundled.
  ssr: { noExternal: true, external: ["webgpu"] },
  build: {
    target: "node20",
    emptyOutDir: false,
    ssr: "src/cli/main.ts",
    rolldownOptions: { output: { entryFileNames: "cli.js", codeSplitting: false } },
  },
};

/** Its addresses are relative: it may be hosted under any path. */
const DEMO: UserConfig = {
  ...SHARED,
  root: "demo",
  base: "./",
  publicDir: "../public",
  build: {
    target: "es2022",
    outDir: "../dist-demo",
    emptyOutDir: true,
    // Whole paths: the server's scan for dependencies and the build look for others in different folders.
    rolldownOptions: { input: ["demo/index.html", "demo/bench/index.html"].map(wholePath) },
  },
};

/** What a script asks. */
const BENCH: UserConfig = {
  ...SHARED,
  root: "bench",
  base: "./",
  publicDir: false,
  build: { target: "es2022", outDir: "../dist-bench", emptyOutDir: true },
};

const BENCH_NODE: UserConfig = {
  ...CLI,
  build: {
    ...CLI.build,
    outDir: "dist-bench",
    ssr: "bench/node.ts",
    rolldownOptions: { output: { entryFileNames: "node.js", codeSplitting: false } },
  },
};

const CONFIGS: Readonly<Record<string, UserConfig>> = { library: LIBRARY, cli: CLI, bench: BENCH, "bench-node": BENCH_NODE };

export default defineConfig(({ mode }) => CONFIGS[mode] ?? DEMO);
