// The repository over HTTP, built files included, for a browser or a runtime of its own.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { resolve, sep } from "node:path";
import { serveFile } from "../support/serve-file";

export interface ServedRepository {
  readonly origin: string;
  close(): void;
}

export async function serveRepository(): Promise<ServedRepository> {
  const root = resolve(".");
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "", "http://localhost");
    if (pathname === "/blank.html") {
      response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>blank</title>");
      return;
    }
    const path = resolve(root, `.${decodeURIComponent(pathname)}`);
    void serveFile(path.startsWith(root + sep) ? path : null, request, response);
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
