/**
 * Four patterns of card fraud, after the scenarios of Le Borgne, Siblini, Lebichot and Bontempi, "Reproducible Machine
 * Learning for Credit Card Fraud Detection: Practical Handbook", 2022, chapter 3 (compromised terminals, compromised
 * customers, large amounts), and card testing as payment networks describe it: tiny purchases, then one that pays.
 *
 * Each pattern overlaps with legitimate spending; no single feature gives it away.
 */
import { FRAUD_PATTERNS } from './banks.ts';
import { AUTHENTICATED, addEvent, CHIP, type Events, MAGSTRIPE, PLAIN } from './events.ts';
import type { SimulatorRandom } from './random.ts';
import { DAY, entryOf, momentOf } from './spending.ts';
import {
  type Customers,
  KNOWN_ONLINE,
  KNOWN_SHOPS,
  MERCHANT_CATEGORIES,
  type MerchantCategory,
  nearestOf,
  type Terminals,
} from './world.ts';

interface Scene {
  events: Events;
  days: number;
  customers: Customers;
  terminals: Terminals;
  random: SimulatorRandom;
}

/** Adds exactly `total` fraudulent events, split over FRAUD_PATTERNS by `mix`. */
export function addFraud(
  events: Events,
  total: number,
  mix: readonly number[],
  days: number,
  customers: Customers,
  terminals: Terminals,
  random: SimulatorRandom,
): void {
  const scene: Scene = { events, days, customers, terminals, random };
  const play = [compromiseCard, compromiseTerminal, spendLarge, testCard];
  let share = 0;
  let start = events.count;
  const first = start;
  for (let pattern = 0; pattern < FRAUD_PATTERNS.length; pattern++) {
    share += mix[pattern];
    const end = pattern === FRAUD_PATTERNS.length - 1 ? first + total : first + Math.round(total * share);
    while (events.count < end) play[pattern](scene, pattern + 1, end);
    start = end;
  }
}

/** A stolen card number is spent within hours: several purchases above the usual, mostly online or far away. */
function compromiseCard(scene: Scene, pattern: number, limit: number): void {
  const { events, customers, terminals, random } = scene;
  const customer = random.below(customers.count);
  let time = random.chance(0.35) ? random.uniform() * scene.days * DAY : momentOf(scene.days, random);
  const purchases = 1 + random.below(4);
  for (let at = 0; at < purchases && events.count < limit; at++) {
    const online = random.chance(0.7);
    const terminal = online
      ? onlineIn(scene, ['electronics', 'retail', 'digital', 'travel', 'services'])
      : random.below(terminals.shops);
    const amount = customers.usualAmount[customer] * random.logNormal(2.2, 0.75);
    const entry = online ? (random.chance(0.3) ? AUTHENTICATED : PLAIN) : random.chance(0.4) ? MAGSTRIPE : CHIP;
    addEvent(events, within(scene, time), customer, terminal, amount, entry, pattern);
    time += random.exponential(random.chance(0.5) ? 900 : 4 * 3600);
  }
}

/** A manipulated terminal: for some days copies of cards are charged there by their magnetic stripe. */
function compromiseTerminal(scene: Scene, pattern: number, limit: number): void {
  const { events, customers, terminals, random } = scene;
  const near = random.below(customers.count);
  const terminal = random.chance(0.8)
    ? shopIn(scene, ['fuel', 'restaurant', 'cash', 'services'])
    : nearestOf(3, customers.x[near], customers.y[near], terminals, random.below);
  const start = random.uniform() * Math.max(1, scene.days - 4) * DAY;
  const lasts = (1 + 3 * random.uniform()) * DAY;
  const cards = 6 + random.below(14);
  for (let at = 0; at < cards && events.count < limit; at++) {
    const customer = cardNear(scene, terminal);
    const amount = customers.usualAmount[customer] * terminals.amountFactor[terminal] * random.logNormal(1.3, 0.6);
    const entry = random.chance(0.5) ? MAGSTRIPE : entryOf(terminal, amount, terminals, random);
    addEvent(events, within(scene, start + random.uniform() * lasts), customer, terminal, amount, entry, pattern);
  }
}

/** One purchase far above the usual, of goods that sell on. */
function spendLarge(scene: Scene, pattern: number): void {
  const { events, customers, terminals, random } = scene;
  const customer = random.below(customers.count);
  const online = random.chance(0.3);
  const goods: MerchantCategory[] = ['electronics', 'jewellery', 'travel', 'retail'];
  const familiar = customers.known[customer * (KNOWN_SHOPS + KNOWN_ONLINE) + random.below(KNOWN_SHOPS)];
  const terminal = online ? onlineIn(scene, goods) : random.chance(0.2) ? familiar : shopIn(scene, goods);
  const amount = customers.usualAmount[customer] * random.logNormal(5.5, 0.6);
  const entry = online ? (random.chance(0.45) ? AUTHENTICATED : PLAIN) : entryOf(terminal, amount, terminals, random);
  addEvent(events, momentOf(scene.days, random), customer, terminal, amount, entry, pattern);
}

/** Tiny purchases minutes apart that show whether a number works, then one that pays. */
function testCard(scene: Scene, pattern: number, limit: number): void {
  const { events, customers, random } = scene;
  const customer = random.below(customers.count);
  let time = random.chance(0.5) ? random.uniform() * scene.days * DAY : momentOf(scene.days, random);
  const tests = 1 + random.below(3);
  for (let at = 0; at < tests && events.count < limit; at++) {
    const terminal = onlineIn(scene, ['digital', 'services', 'entertainment']);
    const entry = random.chance(0.35) ? AUTHENTICATED : PLAIN;
    addEvent(events, within(scene, time), customer, terminal, random.logNormal(2.2, 0.8), entry, pattern);
    time += random.exponential(240);
  }
  if (events.count >= limit) return;
  const terminal = onlineIn(scene, ['electronics', 'retail', 'travel']);
  const amount = customers.usualAmount[customer] * random.logNormal(4, 0.6);
  const entry = random.chance(0.3) ? AUTHENTICATED : PLAIN;
  addEvent(events, within(scene, time + random.exponential(1800)), customer, terminal, amount, entry, pattern);
}

/** The customer who lives nearest to the terminal among a few drawn at random. */
function cardNear({ customers, terminals, random }: Scene, terminal: number): number {
  let best = random.below(customers.count);
  for (let draw = 1; draw < 6; draw++) {
    const other = random.below(customers.count);
    if (distanceTo(terminal, other) < distanceTo(terminal, best)) best = other;
  }
  return best;

  function distanceTo(shop: number, customer: number): number {
    return Math.hypot(terminals.x[shop] - customers.x[customer], terminals.y[shop] - customers.y[customer]);
  }
}

/** Keeps a burst that runs over the end inside the simulated days. */
function within(scene: Scene, time: number): number {
  return Math.min(time, scene.days * DAY - 1);
}

function onlineIn(scene: Scene, categories: readonly MerchantCategory[]): number {
  return pickIn(scene, scene.terminals.onlineOf, categories);
}

function shopIn(scene: Scene, categories: readonly MerchantCategory[]): number {
  return pickIn(scene, scene.terminals.shopsOf, categories);
}

function pickIn(scene: Scene, terminalsOf: number[][], categories: readonly MerchantCategory[]): number {
  const category = categories[scene.random.below(categories.length)];
  const found = terminalsOf[MERCHANT_CATEGORIES.indexOf(category)];
  return found[scene.random.below(found.length)];
}
