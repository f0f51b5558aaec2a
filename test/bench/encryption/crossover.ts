/**
 * From how many transactions on a column costs less than rows, for scorecards: measured, and as src/client/layout.ts
 * models it.
 *
 * Rows are cut into requests as the SDK cuts them. Server times contain the making of every encryption of zero: a batch
 * outruns what is prepared. End to end is one thing after another: encrypt, upload, server, download, decrypt; latency
 * and the node's database are left out.
 */
import Table from 'cli-table3';
import { chooseLayout } from '../../../src/client/layout.ts';
import {
  type Encryption,
  type LayoutName,
  maxTransactions,
  requestBytes,
  type SecretKey,
} from '../../../src/encryption/encryption.ts';
import { systemRandom } from '../../../src/random.ts';
import { headerOf } from '../../encryption/support.ts';
import type { BenchmarkReport } from '../report.ts';
import { anyModel, anyVectors } from './measure.ts';

/** Largest body a node takes. */
const LARGEST_BODY_BYTES = 64 * 1024 * 1024;

interface Cost {
  transactions: number;
  encryptMs: number;
  serverMs: number;
  decryptMs: number;
  up: number;
  down: number;
}

const MEASURES: readonly { name: string; of: (cost: Cost) => number }[] = [
  { name: 'server time', of: ({ serverMs }) => serverMs },
  { name: 'bytes', of: ({ up, down }) => up + down },
  ...[1000, 100, 20].map((megabits) => ({
    name: megabits === 1000 ? 'end to end at 1 Gbit/s' : `end to end at ${megabits} Mbit/s`,
    of: ({ encryptMs, serverMs, decryptMs, up, down }: Cost) =>
      encryptMs + serverMs + decryptMs + ((up + down) * 8) / (1000 * megabits),
  })),
];

export async function measureCrossover(
  report: BenchmarkReport,
  encryption: Encryption,
  key: SecretKey,
  { dimension, fields }: { dimension: number; fields: number },
): Promise<void> {
  const preset = encryption.preset.name;
  const { degree } = encryption.preset;
  const shown = `${preset}, ${dimension.toLocaleString('en-US')} one-hot`;
  const columnBytes = requestBytes({ preset, layout: 'column', dimension, transactions: degree });
  if (columnBytes > LARGEST_BODY_BYTES) {
    process.stdout.write(
      `${shown}: a column of ${columnBytes.toLocaleString('en-US')} bytes is more than a node takes\n`,
    );
    return;
  }
  const sizes = [1, 16, 64, 256, 1024, 2048, degree].filter((n, i, all) => all.indexOf(n) === i);
  const table = new Table({
    head: [shown, 'layout', 'encrypt ms', 'up bytes', 'server ms', 'down bytes', 'decrypt ms', 'chosen'],
    colAligns: ['right', 'left', 'right', 'right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  });
  const costs: Record<LayoutName, Cost[]> = { row: [], column: [] };
  for (const n of sizes) {
    for (const layout of ['row', 'column'] as const) {
      const cost = costOf(encryption, key, layout, dimension, fields, n);
      costs[layout].push(cost);
      table.push([
        n.toLocaleString('en-US'),
        layout,
        ...[cost.encryptMs.toFixed(1), cost.up.toLocaleString('en-US'), cost.serverMs.toFixed(1)],
        ...[cost.down.toLocaleString('en-US'), cost.decryptMs.toFixed(1)],
        chooseLayout(preset, dimension, n) === layout ? 'yes' : '',
      ]);
    }
  }
  process.stdout.write(`${table.toString()}\n`);
  for (const { name, of } of MEASURES) {
    const from = crossing(costs.row, costs.column, of);
    report.add({ name: `${shown}: column cheaper in ${name} from`, value: from ?? Number.NaN, unit: 'transactions' });
  }
  const chosen = smallest(degree, (n) => chooseLayout(preset, dimension, n) === 'column');
  report.add({ name: `${shown}: SDK chooses column from`, value: chosen ?? Number.NaN, unit: 'transactions' });
}

/** All requests that so many transactions take. */
function costOf(
  encryption: Encryption,
  key: SecretKey,
  layout: LayoutName,
  dimension: number,
  fields: number,
  transactions: number,
): Cost {
  const model = anyModel(dimension);
  const vectors = anyVectors(dimension, transactions, fields);
  const scorer = encryption.openScorer(systemRandom());
  const most = maxTransactions(encryption.preset.name, layout, dimension);
  const cost: Cost = { transactions, encryptMs: 0, serverMs: 0, decryptMs: 0, up: 0, down: 0 };
  for (let first = 0; first < transactions; first += most) {
    const batch = vectors.slice(first, first + most);
    const header = headerOf(key, model, layout, batch.length);
    const start = performance.now();
    const request = encryption.encryptRequest(key, header, batch);
    const encrypted = performance.now();
    const reply = scorer.score(model, key.publicKey, request);
    const scored = performance.now();
    encryption.decryptReply(key, header, reply);
    cost.encryptMs += encrypted - start;
    cost.serverMs += scored - encrypted;
    cost.decryptMs += performance.now() - scored;
    cost.up += request.length;
    cost.down += reply.length;
  }
  scorer.close();
  return cost;
}

/** Where the difference changes its sign for good, between the sizes that were measured on a straight line. */
function crossing(rows: readonly Cost[], columns: readonly Cost[], of: (cost: Cost) => number): number | undefined {
  const lead = rows.map((row, i) => ({ n: row.transactions, by: of(row) - of(columns[i]) }));
  const last = lead.findLastIndex(({ by }) => by <= 0);
  if (last === lead.length - 1) return undefined;
  if (last === -1) return 1;
  const [below, above] = [lead[last], lead[last + 1]];
  return Math.ceil(below.n + ((above.n - below.n) * -below.by) / (above.by - below.by));
}

function smallest(most: number, is: (n: number) => boolean): number | undefined {
  for (let n = 1; n <= most; n++) if (is(n)) return n;
  return undefined;
}
