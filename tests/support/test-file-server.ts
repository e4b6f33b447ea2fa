// Serves the repository's files and those of ../shared to GPU tests that run in a browser. See test-files.ts.
import type { Plugin } from "vite";
import { serveFile } from "./serve-file.ts";
import { resolveTestPath } from "./test-paths.ts";

export function testFileServer(root: string): Plugin {
  return {
    name: "test-file-server",
    configureServer(server) {
      server.middlewares.use("/test-files", (request, response) => {
        const asked = new URL(request.url ?? "", "http://localhost").searchParams.get("path") ?? "";
        void serveFile(resolveTestPath(root, asked), request, response);
      });
    },
  };
}
