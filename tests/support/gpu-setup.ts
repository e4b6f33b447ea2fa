// Runs before each file of GPU tests: an error of any device that the test made, caught by no scope, fails that test.
import { afterEach } from "vitest";

const devices = new Set<WeakRef<GPUDevice>>();
const errors: string[] = [];

const requestDevice = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  device.addEventListener("uncapturederror", (event) => errors.push(event.error.message));
  devices.add(new WeakRef(device));
  return device;
};

afterEach(async () => {
  // Errors come with the work they belong to.
  await Promise.all([...devices].map((device) => device.deref()?.queue.onSubmittedWorkDone()));
  if (errors.length > 0) throw new Error(`WebGPU reported what no error scope caught:\n${errors.splice(0).join("\n")}`);
});
