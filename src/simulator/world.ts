/**
 * The standing part of the simulated world: cardholders with their habits, and the terminals they pay at.
 *
 * Held as columns of numbers, because a million cardholders as objects would not fit the time budget.
 */
import type { BankProfile } from './banks.ts';
import { seededRandom } from './random.ts';

export const MERCHANT_CATEGORIES = [
  'grocery',
  'fuel',
  'restaurant',
  'retail',
  'electronics',
  'jewellery',
  'travel',
  'health',
  'entertainment',
  'digital',
  'cash',
  'services',
] as const;
export type MerchantCategory = (typeof MERCHANT_CATEGORIES)[number];

/** Share among shops, share among online merchants, and typical amount relative to a customer's usual amount. */
const CATEGORY_SHAPES: Readonly<Record<MerchantCategory, readonly [store: number, online: number, amount: number]>> = {
  grocery: [0.24, 0.05, 0.9],
  fuel: [0.11, 0, 1.4],
  restaurant: [0.19, 0.04, 0.9],
  retail: [0.15, 0.27, 1.2],
  electronics: [0.04, 0.11, 3],
  jewellery: [0.015, 0.015, 4],
  travel: [0.025, 0.07, 4],
  health: [0.06, 0.03, 1],
  entertainment: [0.045, 0.07, 0.8],
  digital: [0, 0.26, 0.3],
  cash: [0.055, 0, 2.2],
  services: [0.07, 0.085, 1.1],
};

export interface Terminals {
  /** Terminals 0 .. shops - 1 stand somewhere; the rest, up to `count`, are online merchants. */
  shops: number;
  count: number;
  /** Position in km, relative to the middle of the region; meaningless for online merchants. */
  x: Float64Array;
  y: Float64Array;
  /** Index into MERCHANT_CATEGORIES. */
  category: Uint8Array;
  /** Typical amount relative to a customer's usual amount. */
  amountFactor: Float64Array;
  /** 1 where cards are mostly read by their magnetic stripe. */
  magstripe: Uint8Array;
  /** Indices of the terminals of each category, shops and online apart. */
  shopsOf: number[][];
  onlineOf: number[][];
}

export const KNOWN_SHOPS = 5;
export const KNOWN_ONLINE = 3;

export interface Customers {
  count: number;
  x: Float64Array;
  y: Float64Array;
  /** The customer's usual amount, in currency units. */
  usualAmount: Float64Array;
  /** Share of the customer's transactions made online, in [0, 1]. */
  onlineShare: Float64Array;
  /** Relative number of transactions. */
  activity: Float64Array;
  /** Whole days between joining the bank and the start of the simulation. */
  tenureDays: Float64Array;
  /** Terminals the customer knows: KNOWN_SHOPS nearby shops, then KNOWN_ONLINE online merchants, per customer. */
  known: Int32Array;
}

export function makeTerminals(seed: number, bank: string, profile: BankProfile, count: number): Terminals {
  const random = seededRandom(seed, `bank ${bank} terminals`);
  const shops = Math.max(MERCHANT_CATEGORIES.length, Math.round(count * 0.85));
  const total = shops + Math.max(MERCHANT_CATEGORIES.length, count - shops);
  const terminals: Terminals = {
    shops,
    count: total,
    x: new Float64Array(total),
    y: new Float64Array(total),
    category: new Uint8Array(total),
    amountFactor: new Float64Array(total),
    magstripe: new Uint8Array(total),
    shopsOf: MERCHANT_CATEGORIES.map(() => []),
    onlineOf: MERCHANT_CATEGORIES.map(() => []),
  };
  for (let at = 0; at < total; at++) {
    const online = at >= shops ? 1 : 0;
    const rank = online ? at - shops : at;
    const category = pickCategory(rank, online ? total - shops : shops, online);
    const shape = CATEGORY_SHAPES[MERCHANT_CATEGORIES[category]];
    terminals.category[at] = category;
    terminals.amountFactor[at] = shape[2] * random.logNormal(1, 0.25);
    (online ? terminals.onlineOf : terminals.shopsOf)[category].push(at);
    if (online) continue;
    // One shop in twelve stands where customers only travel to.
    const abroad = random.chance(1 / 12);
    const spread = abroad ? random.logNormal(1200, 0.8) : profile.regionKm;
    terminals.x[at] = spread * random.normal();
    terminals.y[at] = spread * random.normal();
    terminals.magstripe[at] = random.chance(profile.magstripeShare) ? 1 : 0;
  }
  return terminals;
}

/** Deals categories by quota, so that each that has a share has a terminal however few there are. */
function pickCategory(rank: number, of: number, online: 0 | 1): number {
  const shares = MERCHANT_CATEGORIES.map((name) => CATEGORY_SHAPES[name][online]);
  const available = shares.flatMap((share, category) => (share > 0 ? [category] : []));
  if (rank < available.length) return available[rank];
  const at = (rank - available.length + 0.5) / (of - available.length);
  let sum = 0;
  for (const category of available) {
    sum += shares[category];
    if (at < sum) return category;
  }
  return available[0];
}

export function makeCustomers(
  seed: number,
  bank: string,
  profile: BankProfile,
  count: number,
  terminals: Terminals,
): Customers {
  const random = seededRandom(seed, `bank ${bank} customers`);
  const customers: Customers = {
    count,
    x: new Float64Array(count),
    y: new Float64Array(count),
    usualAmount: new Float64Array(count),
    onlineShare: new Float64Array(count),
    activity: new Float64Array(count),
    tenureDays: new Float64Array(count),
    known: new Int32Array(count * (KNOWN_SHOPS + KNOWN_ONLINE)),
  };
  for (let at = 0; at < count; at++) {
    customers.x[at] = profile.regionKm * random.normal();
    customers.y[at] = profile.regionKm * random.normal();
    customers.usualAmount[at] = random.logNormal(profile.usualAmount, 0.55);
    const odds = (profile.onlineShare / (1 - profile.onlineShare)) * random.logNormal(1, 0.8);
    customers.onlineShare[at] = odds / (1 + odds);
    customers.activity[at] = random.logNormal(1, 0.5);
    customers.tenureDays[at] = Math.floor(random.logNormal(profile.tenureDays, 0.8));
    const first = at * (KNOWN_SHOPS + KNOWN_ONLINE);
    for (let k = 0; k < KNOWN_SHOPS; k++) {
      customers.known[first + k] = nearestOf(6, customers.x[at], customers.y[at], terminals, random.below);
    }
    for (let k = KNOWN_SHOPS; k < KNOWN_SHOPS + KNOWN_ONLINE; k++) {
      customers.known[first + k] = terminals.shops + random.below(terminals.count - terminals.shops);
    }
  }
  return customers;
}

/** The nearest to (x, y) among `draws` shops drawn at random. */
export function nearestOf(
  draws: number,
  x: number,
  y: number,
  terminals: Terminals,
  below: (n: number) => number,
): number {
  let best = -1;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (let draw = 0; draw < draws; draw++) {
    const shop = below(terminals.shops);
    const distance = (terminals.x[shop] - x) ** 2 + (terminals.y[shop] - y) ** 2;
    if (distance < bestDistance) {
      best = shop;
      bestDistance = distance;
    }
  }
  return best;
}
