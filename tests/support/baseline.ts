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
  /** The full name of a test that measures it: where that one does not run, the subject is not missing. */
  readonly test?: string;
}

/** What a run covered. A test is in neither set where a chosen file, name or tag left it out. */
export interface Coverage {
  readonly adapter: string;
  /** Whether the whole suite was asked for: only then is a subject unknown, or is its test gone. */
  readonly isWhole: boolean;
  /** Full names of the tests that ran. */
  readonly ran: ReadonlySet<string>;
  /** Full names of the tests that were skipped: for want of a file, of a feature, or of time. */
  readonly skipped: ReadonlySet<string>;
}

export type Baseline = Readonly<Record<string, Allowance>>;

export type Finding =
  | { readonly type: "worse"; readonly subject: string; readonly worst: number; readonly allowed: number }
  /** Measured, but the baseline does not know it. */
  | { readonly type: "unknown"; readonly subject: string; readonly worst: number }
  /** The test that measured it on this adapter ran, but did not measure it. */
  | { readonly type: "missing"; readonly subject: string }
  /** No test of the suite has the name of the one that measured it. */
  | { readonly type: "untested"; readonly subject: string; readonly test: string };

// Other adapters round differently (fused multiply-add, exp, sin): allow them a few times what one measured.
const HEADROOM = 4;
// About 8 units in the last place of f32: even a kernel that is exact on one adapter may be off by some on another.
const LEAST_ALLOWED = 1e-6;

/** What is wrong with a run. A whole one has exactly the baseline's subjects, but for those whose tests were skipped. */
export function compareWithBaseline(baseline: Baseline, run: readonly Measurement[], coverage: Coverage): Finding[] {
  const { adapter, isWhole, ran, skipped } = coverage;
  const findings: Finding[] = [];
  for (const { subject, worst, limit = Number.POSITIVE_INFINITY } of run) {
    const known = baseline[subject];
    const allowed = Math.min(known?.allowed ?? Number.POSITIVE_INFINITY, limit);
    if (worst > allowed) findings.push({ type: "worse", subject, worst, allowed });
    if (!known && isWhole) findings.push({ type: "unknown", subject, worst });
  }
  const measured = new Set(run.map(({ subject }) => subject));
  for (const [subject, { measured: before, test = "" }] of Object.entries(baseline)) {
    if (measured.has(subject) || !(adapter in before)) continue;
    if (ran.has(test)) findings.push({ type: "missing", subject });
    else if (isWhole && !skipped.has(test)) findings.push({ type: "untested", subject, test });
  }
  return findings;
}

/**
 * The baseline with this adapter's figures replaced by the run's. A whole run drops what no adapter measures any more, but keeps what
 * a skipped test would have measured; a run of a part of the suite leaves the rest as it is.
 */
export function updateBaseline(baseline: Baseline, run: readonly Measurement[], coverage: Omit<Coverage, "ran">): Baseline {
  const { adapter, isWhole, skipped } = coverage;
  const updated: Record<string, Allowance> = {};
  for (const [subject, known] of Object.entries(baseline)) {
    const { [adapter]: replaced, ...others } = known.measured;
    const isKept = !isWhole || skipped.has(known.test ?? "");
    const measured = isKept && replaced !== undefined ? known.measured : others;
    if (Object.keys(measured).length > 0) updated[subject] = { ...known, measured };
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
