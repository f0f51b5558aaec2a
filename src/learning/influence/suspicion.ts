/**
 * Three tests of whether a site's updates could be an honest bank's, from its noised messages alone.
 *
 * 1. `fields`: each record is in one bin of every field, so all fields of a message have the same total. Their differences
 *    are noise of known variance: chi-square. Holds whatever the bank's records are.
 * 2. `range`: a bin's gradient is at most its own count times the largest residual, and so are the totals. Beyond it only
 *    noise can lead: normal tails, Bonferroni over bins, totals and rounds. Holds whatever the bank's records are.
 * 3. `direction`: a site's mean gradient per record against that of the others: log of the squared distance over what
 *    noise and the others' spread explain, against the same of the others (Student's t of one new observation; outliers
 *    are taken out one after the other, Rosner, Technometrics 1983). Once for the first round, in which all sites stand
 *    at the same known model, and once for the mean of the later ones. It takes the banks to be alike up to a normal
 *    spread of that logarithm: an honest bank unlike all others may stand out.
 *
 * A false alarm anywhere in a plan of honest banks has probability at most `FALSE_ALARMS`: each test has a third of it,
 * divided by the sites. Limit: a test that is silent proves nothing. A site that sends what some records could cause, of
 * the size and direction of the others', is not seen; nor are several sites that agree with each other.
 */
import { inRecords, type RoundMessages, type Scales, sumWithout, totalOf } from './messages.ts';
import { chiSquareTail, normalTail, studentTail } from './tails.ts';

/** Probability that any honest site of a plan is suspected. */
export const FALSE_ALARMS = 0.01;

export const TESTS = ['fields', 'range', 'direction'] as const;
export type TestName = (typeof TESTS)[number];

export interface Suspicion {
  /** Probability that an honest site looks at least like this; null where there is too little to test. */
  readonly tails: Record<TestName, number | null>;
  /** Tests that an honest site fails with less than its part of `FALSE_ALARMS`. */
  readonly suspected: TestName[];
}

/** @param counts of all sites. @param gradients of each round from 1 on, of the sites in its sum. */
export function suspicions(
  counts: RoundMessages,
  gradients: readonly RoundMessages[],
  scales: Scales,
): Map<string, Suspicion> {
  const directions = directionTails(counts, gradients, scales);
  const level = FALSE_ALARMS / TESTS.length / counts.size;
  const found = new Map<string, Suspicion>();
  for (const site of counts.keys()) {
    const tails = {
      fields: fieldsTail(site, counts, gradients, scales),
      range: rangeTail(site, counts, gradients, scales),
      direction: directions.get(site) ?? null,
    };
    const suspected = TESTS.filter((test) => (tails[test] ?? 1) < level);
    found.set(site, { tails, suspected });
  }
  return found;
}

function fieldsTail(
  site: string,
  counts: RoundMessages,
  gradients: readonly RoundMessages[],
  { sizes, countUnit, countNoise, gradientUnit, gradientNoise }: Scales,
): number | null {
  if (sizes.length < 2) return null;
  let sum = 0;
  let degrees = 0;
  const add = (values: Float64Array | undefined, unit: number, noise: number) => {
    if (values === undefined) return;
    sum += totalOf(inRecords(values, unit), sizes, noise).disagreement;
    degrees += sizes.length - 1;
  };
  add(counts.get(site), countUnit, countNoise);
  for (const round of gradients) add(round.get(site), gradientUnit, gradientNoise);
  return degrees === 0 ? null : chiSquareTail(sum, degrees);
}

function rangeTail(
  site: string,
  counts: RoundMessages,
  gradients: readonly RoundMessages[],
  scales: Scales,
): number | null {
  const { sizes, countUnit, countNoise, gradientUnit, gradientNoise } = scales;
  const raw = counts.get(site);
  if (raw === undefined) return null;
  const own = inRecords(raw, countUnit);
  const records = totalOf(own, sizes, countNoise);
  let smallest = 1;
  let tests = 0;
  const test = (excess: number, noise: number) => {
    smallest = Math.min(smallest, normalTail(excess / noise));
    tests++;
  };
  gradients.forEach((round, at) => {
    const message = round.get(site);
    if (message === undefined) return;
    const most = scales.largestResidual(at + 1);
    const gradient = inRecords(message, gradientUnit);
    const total = totalOf(gradient, sizes, gradientNoise);
    test(Math.abs(total.value) - most * records.value, Math.hypot(total.noise, most * records.noise));
    const noise = Math.hypot(gradientNoise, most * countNoise);
    for (let bin = 0; bin < gradient.length; bin++) test(Math.abs(gradient[bin]) - most * own[bin], noise);
  });
  // Both signs of each.
  return tests === 0 ? null : Math.min(1, 2 * tests * smallest);
}

/** Below so many sites nothing can be said about what is usual among them. */
const FEWEST_SITES = 4;

function directionTails(
  counts: RoundMessages,
  gradients: readonly RoundMessages[],
  scales: Scales,
): Map<string, number> {
  const remaining = new Set(counts.keys());
  const tails = new Map<string, number>();
  const level = FALSE_ALARMS / TESTS.length / counts.size;
  // Each outlier that is found is compared with the others, and no longer counts among them.
  while (remaining.size >= FEWEST_SITES) {
    const [first, ...later] = gradients.map((round) => distances(remaining, counts, round, scales));
    const step = new Map<string, number>();
    for (const site of remaining) {
      const early = first === undefined ? null : oddity(site, first);
      const late = oddity(site, meanOf(later));
      const smallest = Math.min(early ?? 1, late ?? 1);
      // Bonferroni over the two.
      step.set(site, Math.min(1, (early === null || late === null ? 1 : 2) * smallest));
    }
    const [worst, tail] = [...step].reduce((most, each) => (each[1] < most[1] ? each : most));
    for (const [site, each] of step) tails.set(site, each);
    if (tail >= level) break;
    remaining.delete(worst);
  }
  return tails;
}

/** Logarithm of each site's squared distance from the others, over what noise and their spread explain. */
export function distances(
  sites: ReadonlySet<string>,
  counts: RoundMessages,
  round: RoundMessages,
  { sizes, countUnit, countNoise, gradientUnit, gradientNoise }: Scales,
): Map<string, number> {
  const taking = new Map([...round].filter(([site]) => sites.has(site) && counts.has(site)));
  const records = new Map<string, number>();
  for (const site of taking.keys()) {
    // Safe: filtered above.
    const total = totalOf(inRecords(counts.get(site)!, countUnit), sizes, countNoise);
    // A bank hidden by its noise counts as large as the noise, which is no smaller than it is.
    records.set(site, Math.max(total.value, total.noise, 1));
  }
  const all = [...records.values()].reduce((sum, each) => sum + each, 0);
  const sum = sumWithout(taking, null);
  const explained: { site: string; squared: number; noise: number }[] = [];
  for (const [site, values] of taking) {
    // Safe: filled above.
    const own = records.get(site)!;
    const others = all - own;
    let squared = 0;
    for (let at = 0; at < values.length; at++) {
      squared += ((values[at] / own - (sum[at] - values[at]) / others) / gradientUnit) ** 2;
    }
    const noise = values.length * gradientNoise ** 2 * (1 / own ** 2 + (taking.size - 1) / others ** 2);
    explained.push({ site, squared, noise });
  }
  const found = new Map<string, number>();
  for (const { site, squared, noise } of explained) {
    const rest = explained.filter((each) => each.site !== site);
    const spread = rest.reduce((total, each) => total + Math.max(0, each.squared - each.noise), 0) / rest.length;
    found.set(site, Math.log(squared / (noise + spread)));
  }
  return found;
}

/** Mean over the rounds that a site was in. */
function meanOf(rounds: readonly Map<string, number>[]): Map<string, number> {
  const sums = new Map<string, { sum: number; times: number }>();
  for (const round of rounds) {
    for (const [site, value] of round) {
      const { sum, times } = sums.get(site) ?? { sum: 0, times: 0 };
      sums.set(site, { sum: sum + value, times: times + 1 });
    }
  }
  return new Map([...sums].map(([site, { sum, times }]) => [site, sum / times]));
}

/** Probability that one more like the others is as far above them; null with too few of them. */
function oddity(site: string, values: ReadonlyMap<string, number>): number | null {
  const score = standing(site, values);
  return score === null ? null : studentTail(score.t, score.degrees);
}

/** How far a site lies above the others, in their standard deviations, as Student's t of one new observation. */
export function standing(site: string, values: ReadonlyMap<string, number>): { t: number; degrees: number } | null {
  const own = values.get(site);
  const others = [...values].filter(([other]) => other !== site).map(([, value]) => value);
  if (own === undefined || others.length < FEWEST_SITES - 1) return null;
  const mean = others.reduce((sum, value) => sum + value, 0) / others.length;
  const squares = others.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const degrees = others.length - 1;
  const deviation = Math.max(Math.sqrt(squares / degrees), LEAST_DEVIATION);
  return { t: (own - mean) / (deviation * Math.sqrt(1 + 1 / others.length)), degrees };
}

// The logarithm of a sum of squares of a few hundred noises varies by about so much by itself.
const LEAST_DEVIATION = 0.1;
