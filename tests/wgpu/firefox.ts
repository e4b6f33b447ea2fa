// A headless Firefox with WebGPU, driven by its own protocol (Marionette): JSON over TCP, each message with its length in front.
// https://firefox-source-docs.mozilla.org/testing/marionette/Protocol.html
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { softwareDriver } from "./golden-case";

const EXECUTABLES = [
  "/usr/bin/firefox-esr",
  "/usr/bin/firefox",
  "/Applications/Firefox.app/Contents/MacOS/firefox",
  "C:\\Program Files\\Mozilla Firefox\\firefox.exe",
];

/** $FIREFOX, else the system's; null if there is none. */
export function findFirefox(): string | null {
  return process.env.FIREFOX ?? EXECUTABLES.find((path) => existsSync(path)) ?? null;
}

// WebGPU is off by default on Linux, and on adapters in software everywhere.
const PREFERENCES = {
  "dom.webgpu.enabled": true,
  "gfx.webgpu.ignore-blocklist": true,
  "datareporting.policy.dataSubmissionEnabled": false,
};
const START_MS = 60_000;
const SCRIPT_MS = 240_000;

type Answer = readonly [type: number, id: number, error: { readonly message: string } | null, value: unknown];

export class Firefox {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #socket: Socket;
  readonly #answers = new Map<number, (answer: Answer) => void>();
  #received: Buffer = Buffer.alloc(0);
  #lastId = 0;

  private constructor(process: ChildProcess, profile: string, socket: Socket) {
    this.#process = process;
    this.#profile = profile;
    this.#socket = socket;
    socket.on("data", (bytes: Buffer) => this.#receive(bytes));
  }

  static async launch(executable: string): Promise<Firefox> {
    const profile = mkdtempSync(join(tmpdir(), "crescendo-firefox-"));
    const port = await freePort();
    const preferences = { ...PREFERENCES, "marionette.port": port };
    writeFileSync(
      join(profile, "user.js"),
      Object.entries(preferences)
        .map(([name, value]) => `user_pref("${name}", ${value});\n`)
        .join(""),
    );
    const browser = spawn(executable, ["--headless", "--no-remote", "--marionette", "--profile", profile], {
      stdio: "ignore",
      env: { ...process.env, HOME: profile, ...softwareDriver() },
    });
    const firefox = new Firefox(browser, profile, await connected(port, browser));
    await firefox.#send("WebDriver:NewSession", {});
    await firefox.#send("WebDriver:SetTimeouts", { script: SCRIPT_MS, pageLoad: START_MS });
    return firefox;
  }

  async open(url: string): Promise<void> {
    await this.#send("WebDriver:Navigate", { url });
  }

  /** What the page's `act` gives, called with `args`; both travel as text. */
  async run<Args extends readonly unknown[], T>(act: (...args: Args) => T | Promise<T>, ...args: Args): Promise<T> {
    const script = `
      const [text, done] = [arguments[0], arguments[arguments.length - 1]];
      const act = async () => (${act})(...JSON.parse(text));
      act().then((value) => done({ value }), (error) => done({ error: String(error?.stack ? error + "\\n" + error.stack : error) }));`;
    const { value } = (await this.#send("WebDriver:ExecuteAsyncScript", { script, args: [JSON.stringify(args)] })) as {
      readonly value: { readonly value: T; readonly error?: string };
    };
    if (value.error) throw new Error(value.error);
    return value.value;
  }

  /** What the exported function of a module that the page can import gives. */
  async call<T>(module: string, name: string, ...args: readonly unknown[]): Promise<T> {
    return this.run(
      (url, exported, values) =>
        new Promise<T>((resolve, reject) => {
          // Scripts of a driver cannot import; those of the page can.
          const script = Object.assign(document.createElement("script"), { type: "module" });
          const tell = `(answer) => dispatchEvent(new CustomEvent("called", { detail: JSON.stringify(answer) }))`;
          script.textContent = `
            import { ${exported} as act } from ${JSON.stringify(url)};
            act(...${JSON.stringify(values)}).then((value) => ({ value }), (error) => ({ error: String(error) })).then(${tell});`;
          script.onerror = () => reject(new Error(`${url} cannot be imported`));
          addEventListener("called", (event) => {
            const { value, error } = JSON.parse((event as CustomEvent<string>).detail);
            if (error) reject(new Error(error));
            else resolve(value);
          });
          document.body.append(script);
        }),
      module,
      name,
      args,
    );
  }

  async close(): Promise<void> {
    this.#socket.destroy();
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill();
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  async #send(command: string, parameters: object): Promise<unknown> {
    const id = ++this.#lastId;
    const answered = new Promise<Answer>((resolve, reject) => {
      this.#answers.set(id, resolve);
      this.#socket.once("close", () => reject(new Error(`Firefox went away during ${command}`)));
    });
    const message = JSON.stringify([0, id, command, parameters]);
    this.#socket.write(`${Buffer.byteLength(message)}:${message}`);
    const [, , error, value] = await answered;
    if (error) throw new Error(`${command}: ${error.message}`);
    return value;
  }

  #receive(bytes: Buffer): void {
    this.#received = Buffer.concat([this.#received, bytes]);
    for (;;) {
      const colon = this.#received.indexOf(":");
      const end = colon + 1 + Number(this.#received.subarray(0, Math.max(0, colon)));
      if (colon < 0 || this.#received.length < end) return;
      const message: unknown = JSON.parse(this.#received.subarray(colon + 1, end).toString());
      this.#received = this.#received.subarray(end);
      if (Array.isArray(message)) this.#answers.get(message[1])?.(message as unknown as Answer); // else its greeting
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port is free");
  return address.port;
}

async function connected(port: number, browser: ChildProcess): Promise<Socket> {
  const end = performance.now() + START_MS;
  while (performance.now() < end) {
    if (browser.exitCode !== null) throw new Error(`Firefox ended with ${browser.exitCode}`);
    const socket = connect(port, "127.0.0.1");
    const isOpen = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (isOpen) return socket;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  browser.kill();
  throw new Error(`Firefox did not answer on port ${port} within ${START_MS / 1000} s`);
}
