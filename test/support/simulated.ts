/** Simulated transactions as a whole CSV text and as the JSON records that callers send. */
import { lineWriter, SIMULATED_COLUMNS, WEEKDAYS } from '../../src/simulator/csv.ts';
import { generateTransactions, type SimulationOptions, type Transaction } from '../../src/simulator/transactions.ts';

/** Yields the header line and then one line per transaction in time order, without line ends. */
export function* simulateTransactions(options: SimulationOptions): Generator<string, void, undefined> {
  yield SIMULATED_COLUMNS.join(',');
  const write = lineWriter(options);
  for (const transaction of generateTransactions(options)) yield write(transaction);
}

/** The transaction as the JSON record a caller sends to be scored: the contract's fields and nothing else. */
export function recordOf(t: Transaction): Record<string, string | number | boolean | null> {
  return {
    amount: t.cents / 100,
    hour: t.hour,
    weekday: WEEKDAYS[t.weekday],
    merchantCategory: t.merchantCategory,
    channel: t.channel,
    entryMode: t.entryMode,
    distanceKm: t.distanceKm,
    secondsSinceLast: t.secondsSinceLast,
    count1h: t.count1h,
    count24h: t.count24h,
    amountRatio: t.amountRatio,
    newMerchant: t.newMerchant,
    customerAgeDays: t.customerAgeDays,
    terminalCount24h: t.terminalCount24h,
  };
}
