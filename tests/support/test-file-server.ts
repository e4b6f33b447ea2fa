// Serves the repository's files and those of ../shared to GPU tests that run in a browser, ranges included. See test-files.ts.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { resolve, sep } from "node:path";
import type { Plugin } from "vite";

export function testFileServer(root: string): Plugin {
  const folders = [resolve(root), resolve(root, "../shared")];
  return {
    name: "test-file-server",
    configureServer(server) {
      server.middlewares.use("/test-files", (request, response) => void serve(root, folders, request, response));
    },
  };
}

async function serve(root: string, folders: readonly string[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  const asked = new URL(request.url ?? "", "http://localhost").searchParams.get("path") ?? "";
  const path = resolve(root, asked);
  const isAllowed = folders.some((folder) => path.startsWith(folder + sep));
  const info = isAllowed ? await stat(path).catch(() => null) : null;
  if (!info?.isFile()) {
    response.writeHead(404).end(`no test file ${asked}`);
    return;
  }
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
  const start = range ? Number(range[1]) : 0;
  const end = range ? Math.min(Number(range[2]), info.size - 1) : info.size - 1;
  response.writeHead(range ? 206 : 200, {
    "content-type": "application/octet-stream",
    "content-length": end - start + 1,
    "cache-control": "no-store",
    ...(range ? { "content-range": `bytes ${start}-${end}/${info.size}` } : {}),
  });
  if (request.method === "HEAD" || info.size === 0) response.end();
  else createReadStream(path, { start, end }).pipe(response);
}
