/**
 * Card transactions in time order, with the features a bank knows when it is asked to authorise them.
 *
 * Every feature of a transaction is computed from that transaction and earlier ones only, and none from the label, as
 * a bank's feature pipeline would. A customer's history before the first day is drawn, so that first uses look like
 * later ones. Everything is a function of the options: equal options give equal bytes on one engine.
 *
 * All of it is synthetic: identifiers start with SYN and the contract `demo-transactions` says so.
 */
import { RequestError } from '../errors.ts';
import { BANK_NAMES, FRAUD_PATTERNS, type FraudPattern, profileOf } from './banks.ts';
import { ENTRY_MODES, emptyEvents, timeOrder } from './events.ts';
import { addFraud } from './fraud.ts';
import { seededRandom } from './random.ts';
import { addSpending, DAY } from './spending.ts';
import {
  KNOWN_ONLINE,
  KNOWN_SHOPS,
  MERCHANT_CATEGORIES,
  type MerchantCategory,
  makeCustomers,
  makeTerminals,
} from './world.ts';

export interface SimulationOptions {
  /** Integer in 0 .. 2^53 - 1. */
  seed: number;
  /** One of BANK_NAMES. */
  bank: string;
  /** Transactions in total, 1 .. 50,000,000. */
  rows: number;
  /** Default: one for every four rows. */
  customers?: number;
  /** Default: one for every 250 rows, at least 200. */
  terminals?: number;
  /** Simulated days, 1 .. 366; default 60. */
  days?: number;
  /** Share of fraudulent transactions in 0 .. 0.5; default 0.02. */
  fraudRate?: number;
}

export interface Transaction {
  /** Number of the transaction in time order, from 0. */
  index: number;
  customer: number;
  terminal: number;
  /** Seconds since the Unix epoch, whole. */
  time: number;
  cents: number;
  /** 0 Monday .. 6 Sunday. */
  weekday: number;
  hour: number;
  merchantCategory: MerchantCategory;
  channel: 'store' | 'online' | 'atm';
  entryMode: (typeof ENTRY_MODES)[number];
  /** Null online, where there is no distance. */
  distanceKm: number | null;
  secondsSinceLast: number;
  count1h: number;
  count24h: number;
  amountRatio: number;
  newMerchant: boolean;
  customerAgeDays: number;
  terminalCount24h: number;
  fraud: boolean;
  /** What made it; known to the simulator only and never written. */
  pattern: FraudPattern | null;
}

/** First second of the simulation: Monday, 6 January 2025, 00:00 UTC. */
const START_SECONDS = Date.UTC(2025, 0, 6) / 1000;

/** Options with their defaults; fails with USAGE on a value outside its range. */
export function completeOptions(options: SimulationOptions): Required<SimulationOptions> {
  const complete = {
    seed: options.seed,
    bank: options.bank,
    rows: options.rows,
    customers: options.customers ?? Math.max(1, Math.round(options.rows / 4)),
    terminals: options.terminals ?? Math.max(200, Math.round(options.rows / 250)),
    days: options.days ?? 60,
    fraudRate: options.fraudRate ?? 0.02,
  };
  if (profileOf(complete.bank) === null) throw outside('bank', `one of ${BANK_NAMES.join(', ')}`);
  whole('seed', complete.seed, 0, Number.MAX_SAFE_INTEGER);
  whole('rows', complete.rows, 1, 50_000_000);
  whole('customers', complete.customers, 1, 10_000_000);
  whole('terminals', complete.terminals, 24, 1_000_000);
  whole('days', complete.days, 1, 366);
  if (!(complete.fraudRate >= 0 && complete.fraudRate <= 0.5)) throw outside('fraudRate', 'a number in 0 .. 0.5');
  return complete;
}

/**
 * Yields the transactions in time order.
 *
 * The object is the same one each time, overwritten: copy what is to be kept.
 */
export function* generateTransactions(options: SimulationOptions): Generator<Transaction, void, undefined> {
  const { seed, bank, rows, customers: count, terminals: places, days, fraudRate } = completeOptions(options);
  // Safe: completeOptions refuses a bank without a profile.
  const profile = profileOf(bank)!;
  const terminals = makeTerminals(seed, bank, profile, places);
  const customers = makeCustomers(seed, bank, profile, count, terminals);
  const events = emptyEvents(rows);
  const frauds = Math.round(rows * fraudRate);
  addSpending(events, rows - frauds, days, customers, terminals, seededRandom(seed, `bank ${bank} spending`));
  addFraud(events, frauds, profile.mix, days, customers, terminals, seededRandom(seed, `bank ${bank} fraud`));
  const order = timeOrder(events);

  const history = seededRandom(seed, `bank ${bank} history`);
  const lastTime = new Float64Array(count);
  const meanAmount = new Float64Array(count);
  const seen = new Uint16Array(count);
  const meanGap = (days * DAY * count) / rows;
  for (let at = 0; at < count; at++) {
    lastTime[at] = -Math.ceil(Math.min(history.exponential(meanGap), 80 * DAY)) - 1;
    meanAmount[at] = customers.usualAmount[at] * history.logNormal(1.1, 0.25);
    seen[at] = 8;
  }
  const used1h = new Uint32Array(count);
  const used24h = new Uint32Array(count);
  const terminalUsed24h = new Uint32Array(terminals.count);
  const visited = new Set<number>();
  let hourAgo = 0;
  let dayAgo = 0;

  const transaction: Transaction = {
    index: 0,
    customer: 0,
    terminal: 0,
    time: 0,
    cents: 0,
    weekday: 0,
    hour: 0,
    merchantCategory: 'grocery',
    channel: 'store',
    entryMode: 'chip',
    distanceKm: null,
    secondsSinceLast: 0,
    count1h: 0,
    count24h: 0,
    amountRatio: 0,
    newMerchant: false,
    customerAgeDays: 0,
    terminalCount24h: 0,
    fraud: false,
    pattern: null,
  };
  for (let index = 0; index < rows; index++) {
    const event = order[index];
    const time = events.time[event];
    const customer = events.customer[event];
    const terminal = events.terminal[event];
    for (; events.time[order[hourAgo]] < time - 3600; hourAgo++) used1h[events.customer[order[hourAgo]]]--;
    for (; events.time[order[dayAgo]] < time - DAY; dayAgo++) {
      used24h[events.customer[order[dayAgo]]]--;
      terminalUsed24h[events.terminal[order[dayAgo]]]--;
    }
    const category = MERCHANT_CATEGORIES[terminals.category[terminal]];
    const online = terminal >= terminals.shops;
    const amount = events.cents[event] / 100;
    const pattern = events.pattern[event];

    transaction.index = index;
    transaction.customer = customer;
    transaction.terminal = terminal;
    transaction.time = START_SECONDS + time;
    transaction.cents = events.cents[event];
    transaction.weekday = Math.floor(time / DAY) % 7;
    transaction.hour = Math.floor((time % DAY) / 3600);
    transaction.merchantCategory = category;
    transaction.channel = online ? 'online' : category === 'cash' ? 'atm' : 'store';
    transaction.entryMode = ENTRY_MODES[events.entry[event]];
    transaction.distanceKm = online
      ? null
      : Math.round(
          10 * Math.hypot(terminals.x[terminal] - customers.x[customer], terminals.y[terminal] - customers.y[customer]),
        ) / 10;
    transaction.secondsSinceLast = time - lastTime[customer];
    transaction.count1h = used1h[customer];
    transaction.count24h = used24h[customer];
    transaction.amountRatio = Math.round((1000 * amount) / meanAmount[customer]) / 1000;
    transaction.newMerchant = !knows(customers.known, customer, terminal) && firstVisit(visited, customer, terminal);
    transaction.customerAgeDays = customers.tenureDays[customer] + Math.floor(time / DAY);
    transaction.terminalCount24h = terminalUsed24h[terminal];
    transaction.fraud = pattern > 0;
    transaction.pattern = pattern > 0 ? FRAUD_PATTERNS[pattern - 1] : null;
    yield transaction;

    lastTime[customer] = time;
    if (seen[customer] < 30) seen[customer]++;
    meanAmount[customer] += (amount - meanAmount[customer]) / seen[customer];
    used1h[customer]++;
    used24h[customer]++;
    terminalUsed24h[terminal]++;
  }
}

function knows(known: Int32Array, customer: number, terminal: number): boolean {
  const first = customer * (KNOWN_SHOPS + KNOWN_ONLINE);
  for (let at = first; at < first + KNOWN_SHOPS + KNOWN_ONLINE; at++) if (known[at] === terminal) return true;
  return false;
}

function firstVisit(visited: Set<number>, customer: number, terminal: number): boolean {
  const before = visited.size;
  visited.add(customer * 2_000_000 + terminal);
  return visited.size > before;
}

function whole(name: string, value: number, least: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > most) {
    throw outside(name, `a whole number in ${least} .. ${most}`);
  }
}

function outside(name: string, rule: string): RequestError {
  return new RequestError('USAGE', `The simulation's ${name} must be ${rule}`, { where: name, fix: `Give ${rule}.` });
}
