/**
 * Legitimate spending: trips of several payments, known and new shops, travel, small digital purchases and now and
 * then a large one. Each habit here resembles some fraud pattern on purpose: a detector must weigh, not match.
 */
import { AUTHENTICATED, addEvent, CHIP, CONTACTLESS, type Events, MAGSTRIPE, PLAIN } from './events.ts';
import type { SimulatorRandom } from './random.ts';
import { type Customers, KNOWN_ONLINE, KNOWN_SHOPS, MERCHANT_CATEGORIES, nearestOf, type Terminals } from './world.ts';

export const DAY = 86_400;
const CASH = MERCHANT_CATEGORIES.indexOf('cash');

/** Adds exactly `total` legitimate events, spread over the customers by their activity. */
export function addSpending(
  events: Events,
  total: number,
  days: number,
  customers: Customers,
  terminals: Terminals,
  random: SimulatorRandom,
): void {
  let activity = 0;
  for (let at = 0; at < customers.count; at++) activity += customers.activity[at];
  let reached = 0;
  let dealt = 0;
  for (let customer = 0; customer < customers.count; customer++) {
    reached += customers.activity[customer];
    const upTo = customer === customers.count - 1 ? total : Math.round((reached / activity) * total);
    const end = days * DAY;
    let time = -1;
    for (; dealt < upTo; dealt++) {
      const continued = time >= 0 && random.chance(0.3);
      time = continued ? time + random.exponential(random.chance(0.25) ? 180 : 3600) : momentOf(days, random);
      if (time >= end) time = momentOf(days, random);
      addPayment(events, time, customer, customers, terminals, random);
    }
  }
}

/** A time of the day people pay at, on a uniformly chosen day; seconds since the start. */
export function momentOf(days: number, random: SimulatorRandom): number {
  const day = random.below(days);
  const kind = random.uniform();
  const hour =
    kind < 0.6 ? 12.5 + 3 * random.normal() : kind < 0.9 ? 19 + 2.2 * random.normal() : 24 * random.uniform();
  return day * DAY + (((hour % 24) + 24) % 24) * 3600;
}

function addPayment(
  events: Events,
  time: number,
  customer: number,
  customers: Customers,
  terminals: Terminals,
  random: SimulatorRandom,
): void {
  const terminal = placeOf(customer, customers, terminals, random);
  const rare = random.chance(0.05) ? random.logNormal(4.5, 0.5) : 1;
  const amount = customers.usualAmount[customer] * terminals.amountFactor[terminal] * random.logNormal(0.9, 0.6) * rare;
  addEvent(events, time, customer, terminal, amount, entryOf(terminal, amount, terminals, random), 0);
}

function placeOf(customer: number, customers: Customers, terminals: Terminals, random: SimulatorRandom): number {
  const first = customer * (KNOWN_SHOPS + KNOWN_ONLINE);
  const kind = random.uniform();
  if (random.chance(customers.onlineShare[customer])) {
    return kind < 0.45
      ? customers.known[first + KNOWN_SHOPS + random.below(KNOWN_ONLINE)]
      : terminals.shops + random.below(terminals.count - terminals.shops);
  }
  if (kind < 0.6) return customers.known[first + random.below(KNOWN_SHOPS)];
  if (kind < 0.92) return nearestOf(4, customers.x[customer], customers.y[customer], terminals, random.below);
  return random.below(terminals.shops);
}

/** How the card is usually read at a terminal; index into ENTRY_MODES. */
export function entryOf(terminal: number, amount: number, terminals: Terminals, random: SimulatorRandom): number {
  if (terminal >= terminals.shops) return random.chance(0.6) ? AUTHENTICATED : PLAIN;
  if (terminals.magstripe[terminal] === 1) return random.chance(0.8) ? MAGSTRIPE : CHIP;
  if (terminals.category[terminal] === CASH) return CHIP;
  return random.chance(amount < 50 ? 0.7 : 0.1) ? CONTACTLESS : CHIP;
}
