/**
 * A process of its own for a hundred banks of which 33 drop out: in a test runner's sandbox every look-up of a global is
 * slow, and key sharing makes a hundred million of them. Argument: `inputs`, where all 33 stay away before their input, or
 * `spread`, over four steps. Prints the outcome as JSON.
 */
import { thresholdOf } from '../../../src/learning/plan.ts';
import { AGGREGATOR, type Schedule } from '../../../src/operations/simulateFederation/faults.ts';
import { runFederation } from '../../../src/operations/simulateFederation/simulate.ts';
import { vectorWorkload } from '../../../src/operations/simulateFederation/workload.ts';

const sites = 100;
const threshold = thresholdOf(sites, 'lying');
const steps =
  process.argv[2] === 'inputs' ? (['inputs'] as const) : (['shares', 'inputs', 'agreement', 'reveal'] as const);
const faults: Schedule = (party) => {
  const number = Number(party.slice('bank-'.length));
  if (party === AGGREGATOR || number % 3 !== 0) return null;
  const phase = steps[(number / 3) % steps.length];
  return { kind: 'away', phase, beforeReply: true, forMs: 1e9 };
};
const work = vectorWorkload({
  ...{ sites, quorum: threshold, threshold, deadlineMs: 1_000, dimension: 16, bits: 20, rounds: 1, seed: 5 },
});
const weather = { delayMs: 5, loss: 0, duplicate: 0, reorder: 0 };
const outcome = await runFederation({ work, weather, faults, slots: 1, seed: 5 });
process.stdout.write(JSON.stringify(outcome));
