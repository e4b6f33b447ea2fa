// Runs before each file of GPU tests: an error of any device that a test made, caught by no scope, fails that test; and each test says
// on which adapter it ran.
import { afterEach } from "vitest";

declare module "vitest" {
  interface TaskMeta {
    /** `kind` names it in the baseline: vendor and architecture. */
    adapter?: { readonly kind: string; readonly name: string };
    userAgent?: string;
  }
}

const devices = new Set<WeakRef<GPUDevice>>();
const errors: string[] = [];
let adapter: { readonly kind: string; readonly name: string } | null = null;

const requestDevice = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  device.addEventListener("uncapturederror", (event) => errors.push(event.error.message));
  devices.add(new WeakRef(device));
  const kind = [this.info.vendor, this.info.architecture].filter(Boolean).join(" ") || "unknown adapter";
  adapter = { kind, name: [kind, this.info.description].filter(Boolean).join(", ") };
  return device;
};

afterEach(async ({ task }) => {
  if (adapter) task.meta.adapter = adapter;
  task.meta.userAgent = navigator.userAgent;
  // Errors come with the work they belong to.
  await Promise.all([...devices].map((device) => device.deref()?.queue.onSubmittedWorkDone()));
  if (errors.length > 0) throw new Error(`WebGPU reported what no error scope caught:\n${errors.splice(0).join("\n")}`);
});
