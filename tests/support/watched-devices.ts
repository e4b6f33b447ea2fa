// Every device that a test makes: errors that no scope caught, and on which adapter it is. In place from the import on.

const devices = new Set<WeakRef<GPUDevice>>();
const errors: string[] = [];
let adapter: { readonly kind: string; readonly name: string } | null = null;

const requestDevice = GPUAdapter.prototype.requestDevice;
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await requestDevice.apply(this, args);
  device.addEventListener("uncapturederror", (event) => errors.push(event.error.message));
  const watched = new WeakRef(device);
  devices.add(watched);
  void device.lost.then(() => devices.delete(watched));
  const kind = [this.info.vendor, this.info.architecture].filter(Boolean).join(" ") || "unknown adapter";
  adapter = { kind, name: [kind, this.info.description].filter(Boolean).join(", ") };
  return device;
};

// Chromium lets it pass. In Firefox and Deno nothing of such an encoder is done.
const copy = GPUCommandEncoder.prototype.copyBufferToBuffer as (...args: unknown[]) => undefined;
GPUCommandEncoder.prototype.copyBufferToBuffer = function (this: GPUCommandEncoder, ...args: unknown[]) {
  if (args.includes(args[0], 1)) errors.push(`a copy within one buffer: ${(args[0] as GPUBuffer).label}`);
  return copy.apply(this, args);
};

/** Of the last device that was made; null before the first. */
export function testAdapter(): { readonly kind: string; readonly name: string } | null {
  return adapter;
}

/** What no error scope caught since the last call, once all devices have done what they were told. */
export async function takeUncaughtErrors(): Promise<string[]> {
  // Errors come with the work they belong to.
  await Promise.all([...devices].map((device) => device.deref()?.queue.onSubmittedWorkDone()));
  return errors.splice(0);
}
