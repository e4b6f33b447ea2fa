// FNV-1a, 64 bits (RFC 9923): names for things that are compared within one application. It keeps no attacker out.

const FNV_OFFSET = 0xcbf29ce484222325n;
const FNV_PRIME = 0x100000001b3n;

/** The hash of what `start` is the hash of, followed by `bytes`. */
export function fnv1a(bytes: Iterable<number>, start = FNV_OFFSET): bigint {
  let hash = start;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * FNV_PRIME);
  return hash;
}

/** 16 hexadecimal digits. */
export function hashText(hash: bigint): string {
  return hash.toString(16).padStart(16, "0");
}
