// Answers an HTTP request with a file, or with a range of it.
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join } from "node:path";

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".webmanifest": "application/manifest+json",
};

/** A folder answers with its index.html, what is not there with 404. `path` null is not there either. */
export async function serveFile(path: string | null, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const info = path === null ? null : await stat(path).catch(() => null);
  if (path !== null && info?.isDirectory()) return serveFile(join(path, "index.html"), request, response);
  if (path === null || !info) {
    response.writeHead(404, { "content-type": "text/plain" }).end(`not found: ${request.url}`);
    return;
  }
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
  const start = Number(range?.[1] ?? 0);
  const end = Math.min(range?.[2] ? Number(range[2]) : Number.POSITIVE_INFINITY, info.size - 1);
  if (range && start >= info.size) {
    response.writeHead(416, { "content-range": `bytes */${info.size}` }).end();
    return;
  }
  response.writeHead(range ? 206 : 200, {
    "accept-ranges": "bytes",
    "cache-control": "no-cache",
    "content-length": end - start + 1,
    "content-type": CONTENT_TYPES[extname(path)] ?? "application/octet-stream",
    etag: `"${info.size.toString(16)}-${Math.floor(info.mtimeMs).toString(16)}"`,
    ...(range ? { "content-range": `bytes ${start}-${end}/${info.size}` } : {}),
  });
  if (request.method === "HEAD" || info.size === 0) response.end();
  else createReadStream(path, { start, end }).pipe(response);
}
