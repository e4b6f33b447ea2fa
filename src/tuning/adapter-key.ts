// The key that measured tunings are stored under: the adapter's name, or what else tells adapters apart.
import type { Gpu } from "../gpu/device";

/** The part of a `Gpu` that decides which stored tunings apply. */
export type TunedDevice = Pick<Gpu, "adapterName" | "features" | "limits">;

// What `Gpu` calls an adapter whose browser gives no information about it (Firefox).
const UNNAMED = "unknown adapter";

/**
 * A laptop may have two adapters, and some browsers name neither, or only the vendor. Limits and features then keep their tunings apart. `Gpu`
 * requests these limits from the adapter, so the device has the adapter's values.
 */
export function adapterKey({ adapterName, features, limits }: TunedDevice): string {
  const namesModel = adapterName !== UNNAMED && adapterName.includes(" ");
  if (namesModel) return adapterName;
  const { f16, subgroups, subgroupMatrix } = features;
  const traits = [
    f16 && "f16",
    subgroups && `subgroups of ${subgroups.min} to ${subgroups.max}`,
    subgroupMatrix && "subgroup matrices",
    `bindings of ${limits.maxStorageBufferBindingSize} bytes`,
    `buffers of ${limits.maxBufferSize} bytes`,
    `workgroups of ${limits.maxComputeInvocationsPerWorkgroup} threads and ${limits.maxComputeWorkgroupStorageSize} bytes`,
  ];
  return `${adapterName} with ${traits.filter(Boolean).join(", ")}`;
}
