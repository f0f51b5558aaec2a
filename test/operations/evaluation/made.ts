/** A made-up file for evaluations: four fields, customers with several rows, and a label that the fields explain. */
import { seededRandom } from '../../support/publicData.ts';

export const COLUMNS = ['customer', 'income', 'age', 'purpose', 'employed', 'default', 'remark'];

export function madeContract(wishes: Record<string, unknown> = {}): Record<string, unknown> {
  const reason = { code: 'REASON', text: 'A made-up reason' };
  return {
    format: 'veilrisk-contract/1',
    name: 'made',
    version: 1,
    title: 'Made-up loans',
    synthetic: true,
    fields: [
      { kind: 'numeric', name: 'income', min: 0, max: 100_000, scale: 'log1p', bins: 8, reason },
      { kind: 'numeric', name: 'age', min: 18, max: 90, edges: [25, 40, 65], reason },
      { kind: 'categorical', name: 'purpose', categories: ['car', 'home, garden'], reason },
      { kind: 'boolean', name: 'employed', reason },
    ],
    label: { name: 'default', positive: ['>1', '>1.'], negative: ['0'] },
    subject: 'customer',
    maxRecordsPerSubject: 2,
    ...wishes,
  };
}

/** `count` rows of `customers` customers, as cells; the same for the same arguments. */
export function madeRows(count: number, customers: number): string[][] {
  const random = seededRandom(17);
  const below = (n: number) => Math.floor((random.nextUint32() / 2 ** 32) * n);
  return Array.from({ length: count }, (_, row) => {
    const age = 18 + below(80);
    const risky = age < 40 ? 0.7 : 0.15;
    const label = random.nextUint32() / 2 ** 32 < risky ? ['>1', '>1.'][below(2)] : '0';
    const income = below(10) === 0 ? '' : String(below(120_000));
    return [`c${row % customers}`, income, String(age), ['car', '"home, garden"', 'boat'][below(3)], 'yes', label, 'x'];
  });
}

export function csvOf(rows: readonly (readonly string[])[], header: readonly string[] = COLUMNS): string {
  return `${[header, ...rows].map((cells) => cells.join(',')).join('\n')}\n`;
}
