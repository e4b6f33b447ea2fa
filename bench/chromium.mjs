// Runs the built bench page in headless Chromium on this machine's GPU and prints the result as tables, or writes it as JSON.
//   node bench/chromium.mjs --dist dist-bench --question speed [--model path/to/model.gguf] [--options '{"decodeContexts":[128]}'] [--out result.json]
// `npm run bench -- …` builds the page first.
// Plain JavaScript that needs only playwright-core, so that it runs where nothing can be installed (CHROMIUM is the path of the browser).
import { createReadStream, statSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createRequire } from "node:module";
import { basename, extname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    dist: { type: "string", default: "dist-bench" },
    model: { type: "string" },
    question: { type: "string", default: "speed" },
    options: { type: "string", default: "{}" },
    out: { type: "string" },
    adapter: { type: "string", default: "hardware" },
    // Load the model as a chosen file instead of over HTTP.
    local: { type: "boolean", default: false },
  },
});
const isSynthetic = values.model?.startsWith("synthetic:");
const modelPath = values.model && !isSynthetic && !values.local ? `/model/${basename(values.model)}` : null;

const require = createRequire(import.meta.url);
const playwrightPath = process.env.NODE_PATH ? `${process.env.NODE_PATH}/playwright-core` : "playwright-core";
const { chromium } = require(playwrightPath);

const ARGS = {
  hardware: [
    "--no-sandbox",
    "--headless=new",
    "--enable-unsafe-webgpu",
    "--ignore-gpu-blocklist",
    "--use-angle=vulkan",
    "--enable-features=Vulkan,VulkanFromANGLE,DefaultANGLEVulkan",
    "--use-vulkan=native",
    "--disable-vulkan-surface",
    "--disable-gpu-sandbox",
    "--enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
    "--disable-dawn-features=timestamp_quantization",
    "--use-webgpu-power-preference=force-high-performance",
  ],
  swiftshader: ["--no-sandbox", "--headless=new", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"],
};
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".json": "application/json" };

const server = http.createServer((request, response) => {
  const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  const file = path === modelPath ? values.model : join(resolve(values.dist), path === "/" ? "index.html" : path);
  try {
    const { size } = statSync(file);
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    const end = Math.min(range?.[2] ? Number(range[2]) : size - 1, size - 1);
    response.writeHead(range ? 206 : 200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "content-length": end - start + 1,
      "accept-ranges": "bytes",
      etag: `"${size}"`,
      ...(range && { "content-range": `bytes ${start}-${end}/${size}` }),
    });
    createReadStream(file, { start, end }).pipe(response);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  ...(values.adapter === "hardware" && { ignoreDefaultArgs: ["--enable-unsafe-swiftshader", "--disable-gpu"] }),
  args: ARGS[values.adapter],
});
try {
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  page.on("pageerror", (error) => console.error(error));
  await page.goto(origin);
  await page.waitForSelector("html[data-ready]");
  if (values.local) await page.setInputFiles("input[type=file]", values.model);
  const place = modelPath ? origin + modelPath : isSynthetic ? values.model : null;
  const call = `ask("${values.question}", ${JSON.stringify(place)}, ${values.options})`;
  const result = { browser: browser.version(), ...(await page.evaluate(call)) };
  const text = JSON.stringify(result, null, 2);
  console.log(await page.evaluate(`tell(${text})`));
  if (values.out) writeFileSync(values.out, `${text}\n`);
} finally {
  await browser.close();
  server.close();
}
