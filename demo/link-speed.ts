// The speeds to which downloads can be throttled, and the one in the page's address.

/** Mbit/s: slow mobile, then typical home connections. */
export const LINK_SPEEDS: readonly number[] = [100, 50, 25, 10];

/** `?link=` in Mbit/s; null, without a limit, if absent. */
export function readLinkSpeed(address: URL): number | null {
  const speed = Number(address.searchParams.get("link"));
  return Number.isFinite(speed) && speed > 0 ? speed : null;
}

/** Puts the speed into the address, so that a reload keeps it. */
export function writeLinkSpeed(address: URL, speed: number | null): URL {
  const next = new URL(address);
  if (speed === null) next.searchParams.delete("link");
  else next.searchParams.set("link", String(speed));
  return next;
}
