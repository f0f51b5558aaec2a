/**
 * Encrypted scoring: the bars of encryption.md, section 8, the crossover of the two layouts, and TenSEAL beside it.
 *
 * `npm run bench:encryption -- --json OUT`; about six minutes on two idle cores, four of them for the memory of 100,000
 * requests (BENCH_MEMORY_REQUESTS takes another number). Times are of one thread where nothing else is said.
 */
import { openEncryption } from '../../src/encryption/encryption.ts';
import { bundledContract, measureBars } from './encryption/bars.ts';
import { measureCrossover } from './encryption/crossover.ts';
import { measureEndToEnd } from './encryption/endToEnd.ts';
import { measureMemory } from './encryption/memory.ts';
import { compareWithTenseal } from './encryption/tenseal.ts';
import { openReport } from './report.ts';

const report = openReport('encrypted scoring');

// First, while the process has held nothing else.
await measureMemory(report, Number(process.env.BENCH_MEMORY_REQUESTS ?? 100_000));
const standard = await openEncryption('standard');
const conservative = await openEncryption('conservative');
const keys = { standard: standard.createKeys(), conservative: conservative.createKeys() };
for (const encryption of [standard, conservative]) {
  const key = keys[encryption.preset.name];
  await measureBars(report, encryption, key);
  await measureCrossover(report, encryption, key, bundledContract());
  await measureCrossover(report, encryption, key, { dimension: 1000, fields: 30 });
}
await measureEndToEnd(report);
compareWithTenseal(report, standard, keys.standard);
report.finish();
