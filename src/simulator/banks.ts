/**
 * The four banks of the simulator: who their customers are and which fraud reaches them.
 *
 * Every bank meets every pattern, but one pattern dominates at each, so that a bank alone learns little about the
 * others. The numbers are inventions; they describe no bank.
 */

export const FRAUD_PATTERNS = ['compromisedCard', 'compromisedTerminal', 'largeAmount', 'cardTesting'] as const;
export type FraudPattern = (typeof FRAUD_PATTERNS)[number];

/** Names a simulated bank can have; e to h have the profiles of a to d and customers of their own. */
export const BANK_NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] as const;

export interface BankProfile {
  title: string;
  /** Share of the fraudulent transactions per pattern, in the order of FRAUD_PATTERNS; sums to 1. */
  mix: readonly [number, number, number, number];
  /** Median of a customer's usual amount, in currency units. */
  usualAmount: number;
  /** Mean share of a customer's transactions made online. */
  onlineShare: number;
  /** Share of terminals that still read the magnetic stripe of a card. */
  magstripeShare: number;
  /** Median number of days since a customer joined. */
  tenureDays: number;
  /** Radius of the region in which customers live, in km. */
  regionKm: number;
}

const PROFILES: readonly BankProfile[] = [
  {
    title: 'a retail bank in a large city',
    mix: [0.64, 0.12, 0.12, 0.12],
    usualAmount: 32,
    onlineShare: 0.3,
    magstripeShare: 0.06,
    tenureDays: 1500,
    regionKm: 40,
  },
  {
    title: 'a savings bank in the country',
    mix: [0.12, 0.64, 0.12, 0.12],
    usualAmount: 26,
    onlineShare: 0.18,
    magstripeShare: 0.12,
    tenureDays: 2600,
    regionKm: 150,
  },
  {
    title: 'a private bank',
    mix: [0.12, 0.12, 0.64, 0.12],
    usualAmount: 60,
    onlineShare: 0.26,
    magstripeShare: 0.05,
    tenureDays: 2000,
    regionKm: 80,
  },
  {
    title: 'an online bank',
    mix: [0.12, 0.12, 0.12, 0.64],
    usualAmount: 28,
    onlineShare: 0.5,
    magstripeShare: 0.05,
    tenureDays: 600,
    regionKm: 250,
  },
];

/** The profile of a bank, or null when there is no bank of this name. */
export function profileOf(bank: string): BankProfile | null {
  const at = (BANK_NAMES as readonly string[]).indexOf(bank);
  return at < 0 ? null : PROFILES[at % PROFILES.length];
}
