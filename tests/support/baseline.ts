// The committed allowance for the error of each kernel variant and golden case, and how a run is held against it.

/** The worst error seen in a run for one subject: a kernel's stem and variant class, or `golden/<case> <kind>`. */
export interface Measurement {
  readonly subject: string;
  /** Finite: what is not a number counts as the largest that is one. */
  readonly worst: number;
  /** The hard limit, for golden cases: no allowance is looser. */
  readonly limit?: number;
  /** The full name of the test that measured it. */
  readonly test?: string;
}

export interface Allowance {
  readonly allowed: number;
  /** Worst errors by adapter, as measured when the baseline was last written there. */
  readonly measured: Readonly<Record<string, number>>;
  /** A test that measures it: where that one is skipped, the subject is not missing. */
  readonly test?: string;
}

/** What a run covered. */
export interface Coverage {
  readonly adapter: string;
  /** Whether the whole suite was asked for: only then is anything missing, or unknown. */
  readonly isWhole: boolean;
  /** Full names of tests that were skipped. */
  readonly skipped: ReadonlySet<string>;
}

export type Baseline = Readonly<Record<string, Allowance>>;

export type Finding =
  | { readonly type: "worse"; readonly subject: string; readonly worst: number; readonly allowed: number }
  /** Measured, but the baseline does not know it. */
  | { readonly type: "unknown"; readonly subject: string; readonly worst: number }
  /** The baseline has it from this adapter, but the run did not measure it. */
  | { readonly type: "missing"; readonly subject: string };

// Other adapters round differently (fused multiply-add, exp, sin): allow them a few times what one measured.
const HEADROOM = 4;
// About 8 units in the last place of f32: even a kernel that is exact on one adapter may be off by some on another.
const LEAST_ALLOWED = 1e-6;

/** What is wrong with a run. A whole one has exactly the baseline's subjects, but for what was skipped. */
export function compareWithBaseline(baseline: Baseline, run: readonly Measurement[], coverage: Coverage): Finding[] {
  const { adapter, isWhole, skipped } = coverage;
  const findings: Finding[] = [];
  for (const { subject, worst, limit = Number.POSITIVE_INFINITY } of run) {
    const known = baseline[subject];
    const allowed = Math.min(known?.allowed ?? Number.POSITIVE_INFINITY, limit);
    if (worst > allowed) findings.push({ type: "worse", subject, worst, allowed });
    if (!known && isWhole) findings.push({ type: "unknown", subject, worst });
  }
  if (!isWhole) return findings;
  const measured = new Set(run.map(({ subject }) => subject));
  for (const [subject, known] of Object.entries(baseline)) {
    const isExpected = adapter in known.measured && !skipped.has(known.test ?? "");
    if (isExpected && !measured.has(subject)) findings.push({ type: "missing", subject });
  }
  return findings;
}

/**
 * The baseline with this adapter's figures replaced by the run's. A whole run drops what no adapter measures any more; one of a part
 * of the suite leaves the rest as it is.
 */
export function updateBaseline(baseline: Baseline, run: readonly Measurement[], adapter: string, isWhole = true): Baseline {
  const updated: Record<string, Allowance> = isWhole ? {} : { ...baseline };
  for (const [subject, known] of isWhole ? Object.entries(baseline) : []) {
    const { [adapter]: _replaced, ...others } = known.measured;
    if (Object.keys(others).length > 0) updated[subject] = { ...known, measured: others };
  }
  for (const { subject, worst, limit = Number.POSITIVE_INFINITY, test } of run) {
    const measured = { ...updated[subject]?.measured, [adapter]: twoDigits(worst) };
    const allowed = Math.max(LEAST_ALLOWED, HEADROOM * Math.max(...Object.values(measured)));
    updated[subject] = { allowed: Math.min(limit, twoDigits(allowed)), measured, ...(test ? { test } : {}) };
  }
  return Object.fromEntries(Object.entries(updated).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The worst measurement of each subject, in alphabetical order. */
export function worstBySubject(measurements: Iterable<Measurement>): Measurement[] {
  const worst = new Map<string, Measurement>();
  for (const measurement of measurements) {
    const known = worst.get(measurement.subject);
    if (!known || measurement.worst > known.worst) worst.set(measurement.subject, measurement);
  }
  return [...worst.values()].sort((a, b) => (a.subject < b.subject ? -1 : 1));
}

function twoDigits(value: number): number {
  return Number(value.toPrecision(2));
}
