/** Updates of an evaluation: their size, which is not that of a training round, and that it is checked. */
import { create } from '@bufbuild/protobuf';
import { expect, test } from '@jest/globals';
import { openCourse } from '../../federated/aggregator/course.ts';
import { histogramOf } from '../../federated/aggregator/vectors.ts';
import { canonicalBytes } from '../../federated/protocol/canonical.ts';
import { UpdateSchema } from '../../federated/protocol/generated/veilrisk_pb.js';
import { encodeHistogram } from '../../federated/protocol/histogram.ts';
import { layoutOf } from '../../src/contract/contract.ts';
import type { TrainingPlan } from '../../src/learning/plan.ts';
import { SCORE_CELLS } from '../../src/learning/scoreHistogram.ts';
import { contract, makeConsortium, makePlan } from './consortium.ts';

const { total } = layoutOf(contract);
const consortium = makeConsortium(2);
const course = (changes: Partial<TrainingPlan>) =>
  openCourse(canonicalBytes(makePlan(consortium, { rounds: 2, ...changes })), canonicalBytes(contract));

function update(round: number, dimension: number) {
  const value = { dimension, values: encodeHistogram(new Float64Array(dimension)), releaseId: '1' };
  return create(UpdateSchema, { round, outcome: { case: 'histogram', value } });
}

test('an evaluation has 128 coordinates, every other round those of the contract', () => {
  const evaluated = course({ evaluation: { holdout: 0.2, share: 0.2, bins: 64 } });
  for (const round of [0, 1, 2]) {
    expect(histogramOf(evaluated, update(round, total))).toHaveLength(total);
    expect(() => histogramOf(evaluated, update(round, SCORE_CELLS))).toThrow('coordinates');
  }
  expect(histogramOf(evaluated, update(3, SCORE_CELLS))).toHaveLength(SCORE_CELLS);
  expect(() => histogramOf(evaluated, update(3, total))).toThrow(
    expect.objectContaining({ code: 'MESSAGE_MALFORMED' }),
  );
  expect(course({}).evaluation).toBeNull();
});

test('a training that is not finished has no model to evaluate', () => {
  const evaluated = course({ evaluation: { holdout: 0.2, share: 0.2, bins: 64 } });
  expect(() => evaluated.weights(3, evaluated.firstState())).toThrow(
    expect.objectContaining({ code: 'TRAINING_INPUT' }),
  );
});
