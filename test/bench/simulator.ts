/** Speed of the simulator and of reading its file through the contract: 1,000,000 synthetic transactions. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readContract } from '../../src/operations/contracts.ts';
import { fingerprintFile, readRows } from '../../src/operations/readRows.ts';
import { simulateToFile } from '../../src/operations/simulate.ts';
import { openReport } from './report.ts';

const ROWS = 1_000_000;
const report = openReport(`simulator, ${ROWS.toLocaleString('en-US')} rows`);
const folder = await mkdtemp(join(tmpdir(), 'veilrisk-bench-'));
try {
  const { contract } = await readContract('demo-transactions');
  for (const name of ['synthetic-a.csv', 'synthetic-a.csv.gz']) {
    const out = join(folder, name);
    const seconds = await timed(async () => {
      await simulateToFile({ seed: 1, bank: 'a', rows: ROWS, out });
    });
    report.add({ name: `write ${name}`, value: seconds, unit: 's', bar: { atMost: 20 } });
  }
  const file = join(folder, 'synthetic-a.csv');
  const hashing = await timed(async () => {
    await fingerprintFile(file);
  });
  report.add({ name: 'fingerprint (reference: the bytes alone)', value: hashing, unit: 's' });
  let accepted = 0;
  const reading = await timed(async () => {
    for await (const row of readRows(contract, file)) if (!('issues' in row)) accepted++;
  });
  report.add({ name: 'rows accepted', value: accepted, unit: 'rows', bar: { atLeast: ROWS } });
  report.add({ name: 'read and bin', value: ROWS / reading, unit: 'rows/s' });
  report.add({ name: 'peak memory', value: process.resourceUsage().maxRSS / 1024, unit: 'MiB' });
} finally {
  await rm(folder, { recursive: true, force: true });
}
report.finish();

async function timed(run: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await run();
  return (performance.now() - start) / 1000;
}
