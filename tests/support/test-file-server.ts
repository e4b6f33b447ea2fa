// Serves the repository's files and those of ../shared to GPU tests that run in a browser. See test-files.ts.
import { resolve, sep } from "node:path";
import type { Plugin } from "vite";
import { serveFile } from "./serve-file.ts";

export function testFileServer(root: string): Plugin {
  const folders = [resolve(root), resolve(root, "../shared")];
  return {
    name: "test-file-server",
    configureServer(server) {
      server.middlewares.use("/test-files", (request, response) => {
        const asked = new URL(request.url ?? "", "http://localhost").searchParams.get("path") ?? "";
        const path = resolve(root, asked);
        const isAllowed = folders.some((folder) => path.startsWith(folder + sep));
        void serveFile(isAllowed ? path : null, request, response);
      });
    },
  };
}
