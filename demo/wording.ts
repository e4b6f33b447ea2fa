// Formats bytes, speeds and times.

/** Decimal units, as browsers and hubs show file sizes. */
export function formatBytes(bytes: number): string {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(1)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

export function formatSpeed(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1e6).toFixed(bytesPerSecond < 1e7 ? 1 : 0)} MB/s`;
}

/** Longer times are rounded more coarsely. */
export function formatWait(seconds: number): string {
  if (seconds < 3) return "a moment";
  if (seconds < 10) return `about ${Math.ceil(seconds)} s`;
  if (seconds < 57) return `about ${5 * Math.ceil(seconds / 5)} s`;
  if (seconds < 57 * 60) return `about ${Math.ceil(seconds / 60)} min`;
  return `about ${(seconds / 3600).toFixed(1)} h`;
}

export function formatTimeLeft(seconds: number): string {
  return `${formatWait(seconds)} left`;
}

export function formatSeconds(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
}

export function formatRate(perSecond: number): string {
  return perSecond.toFixed(perSecond < 100 ? 1 : 0);
}
