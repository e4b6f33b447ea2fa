// The static server of the e2e tests: the repository as it lies, so that the demo is at /dist-demo/, under a path, as some hosts have it.
import { createServer } from "node:http";
import { resolve, sep } from "node:path";
import { serveFile } from "../support/serve-file";

const root = resolve(".");
const port = Number(process.env.PORT);

createServer((request, response) => {
  const { pathname } = new URL(request.url ?? "", "http://localhost");
  const path = resolve(root, `.${decodeURIComponent(pathname)}`);
  void serveFile(path.startsWith(root + sep) ? path : null, request, response);
}).listen(port, "127.0.0.1");
