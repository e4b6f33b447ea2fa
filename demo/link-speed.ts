// The speeds that the page's downloads can be slowed to, and the one that its address asks for.

/** Mbit/s: mobile on a bad day, then lines as homes have them. */
export const LINK_SPEEDS: readonly number[] = [100, 50, 25, 10];

/** `?link=` in Mbit/s; null where there is none: as fast as it comes. */
export function readLinkSpeed(address: URL): number | null {
  const speed = Number(address.searchParams.get("link"));
  return Number.isFinite(speed) && speed > 0 ? speed : null;
}

/** So that loading the page again is at the same speed. */
export function writeLinkSpeed(address: URL, speed: number | null): URL {
  const next = new URL(address);
  if (speed === null) next.searchParams.delete("link");
  else next.searchParams.set("link", String(speed));
  return next;
}
