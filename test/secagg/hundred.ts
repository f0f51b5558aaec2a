/**
 * A sum of 100 sites of which 33 are lost, and one that too few answer, for large.test.ts, in a process of its own: inside jest every global is looked up
 * through its sandbox, which makes the Shamir library a hundred times slower. Prints what came out as JSON.
 */
import { SumAggregator } from '../../federated/secagg/aggregator.ts';
import { SecaggError } from '../../src/errors.ts';
import { epochOf, runSum, setUp, site, siteNames, sumOf, valuesOf } from './epoch.ts';

const names = siteNames(100);
const silent = names.slice(0, 11);
const absent = names.slice(30, 41);
const late = names.slice(60, 71);
const epoch = await setUp(epochOf(100, { slots: 2 }), undefined, silent);
const sum = sumOf(epoch, { dimension: 300, bits: 20 });
const aggregator = runSum(epoch, sum, { inputs: absent, later: late });
const survivors = names.filter((name) => !silent.includes(name) && !absent.includes(name));
const result = [...(await aggregator.unmask())];

// One site fewer in the next round: its inputs cannot be closed, and nobody is asked to open anything.
const next = sumOf(epoch, { dimension: 3, round: 2, slot: 1 });
const short = new SumAggregator(epoch.context, epoch.list, next);
for (const name of next.members.slice(0, 66)) short.input(name, site(epoch, name).mask(next, valuesOf(name, 3)));
let refusal = '';
try {
  short.closeInputs(3);
} catch (error) {
  refusal = error instanceof SecaggError ? error.code : String(error);
}

process.stdout.write(
  JSON.stringify({
    threshold: epoch.context.threshold,
    survivors,
    revealed: aggregator.revealed().length,
    result,
    refusal,
  }),
);
