/**
 * Simulated transactions as lines of a CSV file of the contract `demo-transactions`.
 *
 * Identifiers start with SYN, so that a file that lost its name still shows that it is synthetic.
 */
import type { SimulationOptions, Transaction } from './transactions.ts';

export const SIMULATED_COLUMNS = [
  'transactionId',
  'customerId',
  'terminalId',
  'time',
  'amount',
  'hour',
  'weekday',
  'merchantCategory',
  'channel',
  'entryMode',
  'distanceKm',
  'secondsSinceLast',
  'count1h',
  'count24h',
  'amountRatio',
  'newMerchant',
  'customerAgeDays',
  'terminalCount24h',
  'fraud',
] as const;

export const WEEKDAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const;

/** Writes one transaction as a CSV line, without its line end. */
export function lineWriter({ bank }: Pick<SimulationOptions, 'bank'>): (transaction: Transaction) => string {
  const suffix = bank.toUpperCase();
  let day = -1;
  let date = '';
  return (t) => {
    const today = Math.floor(t.time / 86_400);
    if (today !== day) {
      day = today;
      date = new Date(today * 86_400_000).toISOString().slice(0, 11);
    }
    const second = t.time % 86_400;
    const clock = `${two(t.hour)}:${two(Math.floor(second / 60) % 60)}:${two(second % 60)}Z`;
    return `SYN-${suffix}-${t.index},SYN-C-${suffix}-${t.customer},SYN-T-${suffix}-${t.terminal},${date}${clock},${money(t.cents)},${t.hour},${WEEKDAYS[t.weekday]},${t.merchantCategory},${t.channel},${t.entryMode},${t.distanceKm ?? ''},${t.secondsSinceLast},${t.count1h},${t.count24h},${t.amountRatio},${t.newMerchant ? 1 : 0},${t.customerAgeDays},${t.terminalCount24h},${t.fraud ? 1 : 0}`;
  };
}

function two(value: number): string {
  return value < 10 ? `0${value}` : String(value);
}

function money(cents: number): string {
  return `${Math.floor(cents / 100)}.${two(cents % 100)}`;
}
