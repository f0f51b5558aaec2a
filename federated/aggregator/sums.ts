/**
 * Histograms of updates and their exact sums. Sums of at most 100 integers within 2^46 are exact in binary64, so neither
 * order nor process changes them.
 */

import { fromBinary } from '@bufbuild/protobuf';
import { FederationError } from '../../src/errors.ts';
import { envelopeFrom } from '../protocol/envelope.ts';
import { type Update, UpdateSchema } from '../protocol/generated/veilrisk_pb.js';
import { decodeHistogram } from '../protocol/histogram.ts';
import type { Course } from './course.ts';
import type { Transaction } from './store/database.ts';

/** The update's exact integers. Throws MESSAGE_MALFORMED for a wrong dimension or encoding. */
export function histogramOf(course: Course, update: Update): Float64Array {
  const { outcome } = update;
  if (outcome.case !== 'histogram') {
    throw new FederationError('MESSAGE_MALFORMED', 'The update holds no histogram and no refusal.', {
      where: 'outcome',
    });
  }
  const dimension = course.dimension(update.round);
  if (outcome.value.dimension !== dimension) {
    throw new FederationError('MESSAGE_MALFORMED', `The histogram must have ${dimension} coordinates.`, {
      where: 'histogram.dimension',
    });
  }
  return decodeHistogram(outcome.value.values, dimension);
}

/** Exact coordinate-wise sum of the named sites' histograms of one round; all of them must be stored. */
export async function sumOfUpdates(
  tx: Transaction,
  course: Course,
  planId: string,
  round: number,
  sites: readonly string[],
): Promise<Float64Array> {
  const rows = await tx.message.findMany({
    where: { planId, round, refused: false, site: { in: [...sites] } },
    select: { envelope: true },
  });
  if (rows.length !== sites.length) {
    throw new FederationError('ROUND_MISMATCH', 'A contributing site has no stored update.', {
      where: `round ${round}`,
    });
  }
  const sum = new Float64Array(course.dimension(round));
  for (const { envelope } of rows) {
    const { body } = envelopeFrom(envelope);
    const values = histogramOf(course, fromBinary(UpdateSchema, body));
    for (let index = 0; index < sum.length; index++) sum[index] += values[index];
  }
  return sum;
}
