/**
 * What happened, before any feature is computed: who paid when, where, how much, and whether it was fraud.
 *
 * Events are collected in columns and put in time order once all are known.
 */

export const ENTRY_MODES = ['chip', 'contactless', 'magstripe', 'online-authenticated', 'online-plain'] as const;
export const CHIP = 0;
export const CONTACTLESS = 1;
export const MAGSTRIPE = 2;
export const AUTHENTICATED = 3;
export const PLAIN = 4;

export interface Events {
  /** Events recorded so far. */
  count: number;
  /** Whole seconds since the start of the simulation. */
  time: Uint32Array;
  customer: Uint32Array;
  terminal: Uint32Array;
  cents: Uint32Array;
  /** Index into ENTRY_MODES. */
  entry: Uint8Array;
  /** 0 for a legitimate transaction, else 1 + index into FRAUD_PATTERNS. */
  pattern: Uint8Array;
}

export function emptyEvents(capacity: number): Events {
  return {
    count: 0,
    time: new Uint32Array(capacity),
    customer: new Uint32Array(capacity),
    terminal: new Uint32Array(capacity),
    cents: new Uint32Array(capacity),
    entry: new Uint8Array(capacity),
    pattern: new Uint8Array(capacity),
  };
}

/** Records one event; `amount` in currency units is rounded to cents and kept within 0.01 .. 40,000. */
export function addEvent(
  events: Events,
  time: number,
  customer: number,
  terminal: number,
  amount: number,
  entry: number,
  pattern: number,
): void {
  const at = events.count++;
  events.time[at] = Math.floor(time);
  events.customer[at] = customer;
  events.terminal[at] = terminal;
  events.cents[at] = Math.round(Math.min(40_000, Math.max(0.01, amount)) * 100);
  events.entry[at] = entry;
  events.pattern[at] = pattern;
}

/** Indices of the events in time order; events of one second keep the order in which they were recorded. */
export function timeOrder(events: Events): Uint32Array {
  // Time and index in one number, which typed arrays sort natively: below 2^25 s times 5e7 events, so exact in 53 bits.
  const keys = new Float64Array(events.count);
  for (let at = 0; at < events.count; at++) keys[at] = events.time[at] * events.count + at;
  keys.sort();
  const order = new Uint32Array(events.count);
  for (let at = 0; at < events.count; at++) order[at] = keys[at] % events.count;
  return order;
}
