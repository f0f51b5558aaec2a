/**
 * The influence report of a completed plan, for the operator: computed here, where the sites' messages are, so that no
 * message leaves the aggregator for it. Between two sites the process does its other work.
 *
 * Limit: all messages of the plan are in memory while it is computed; a plan with more than `MOST_NUMBERS` is refused.
 */

import { setImmediate } from 'node:timers/promises';
import { fromBinary } from '@bufbuild/protobuf';
import { FederationError } from '../../src/errors.ts';
import { openInfluence, type RoundOfPlan, type SiteInfluence } from '../../src/learning/influence/report.ts';
import { canonicalBytes } from '../protocol/canonical.ts';
import { type BodyInit, envelopeFrom, type Opened } from '../protocol/envelope.ts';
import { UpdateSchema } from '../protocol/generated/veilrisk_pb.js';
import { OPERATOR } from '../protocol/roster.ts';
import { type Course, courseOf } from './course.ts';
import type { Desk } from './desk.ts';
import { checkPlanId, planUnknown } from './store/database.ts';
import { loadEnvelopes, loadPlan } from './store/plans.ts';
import { histogramOf } from './vectors.ts';

/** 400 MB of binary64. */
const MOST_NUMBERS = 50_000_000;

/** @throws FederationError MESSAGE_SIGNATURE for anybody but the operator, PLAN_UNKNOWN, PLAN_STATE until it is completed. */
export async function influenceOf(
  desk: Desk,
  { message: { planId }, signer }: Pick<Opened<'query'>, 'message' | 'signer'>,
): Promise<BodyInit<'influence'>> {
  if (signer !== OPERATOR) {
    throw new FederationError('MESSAGE_SIGNATURE', 'Only the operator may ask what single sites did.', {
      where: 'signer',
      fix: 'Ask the operator of the consortium.',
    });
  }
  checkPlanId(planId);
  const { pool } = desk.database;
  const snapshot = await loadPlan(pool, planId);
  if (snapshot === null) throw planUnknown();
  const { plan } = snapshot;
  const { rows: models } = await pool.query<{ model_json: Buffer; model_hash: string }>(
    'SELECT model_json, model_hash FROM models WHERE plan_id = $1',
    [planId],
  );
  if (models.length === 0) {
    throw new FederationError('PLAN_STATE', `The plan has no model; it is ${plan.state}.`, { where: planId });
  }
  const course = courseOf(plan);
  const rounds = await roundsOf(desk, course, planId);
  const { sites, of, report } = openInfluence({
    ...{
      plan: course.plan,
      contract: course.contract,
      planHash: plan.planHash,
      modelHash: models[0].model_hash,
      rounds,
    },
    intercept: interceptOf(models[0].model_json),
  });
  const parts: SiteInfluence[] = [];
  for (const site of sites) {
    await setImmediate();
    parts.push(of(site));
  }
  return { planId, planHash: plan.planHash, influenceJson: canonicalBytes(report(parts)) };
}

/** Closed rounds with who is in their sums, and what they sent where that can be read. */
async function roundsOf(desk: Desk, course: Course, planId: string): Promise<RoundOfPlan[]> {
  const { pool } = desk.database;
  const { rows } = await pool.query<{ number: number; contributors: string[] }>(
    `SELECT number, contributors FROM rounds
     WHERE plan_id = $1 AND state = 'closed' AND cardinality(contributors) > 0 ORDER BY number`,
    [planId],
  );
  const readable = rows.filter(({ number }) => course.ringBits(number) === 0);
  const numbers = readable.reduce((sum, row) => sum + row.contributors.length * course.dimension(row.number), 0);
  if (numbers > MOST_NUMBERS) {
    throw new FederationError('PLAN_STATE', 'The plan has too many messages for a report in a running aggregator.', {
      where: planId,
    });
  }
  const rounds: RoundOfPlan[] = [];
  for (const { number: round, contributors } of rows) {
    let messages: Map<string, Float64Array> | null = null;
    if (course.ringBits(round) === 0) {
      const stored = await loadEnvelopes(pool, { planId, kind: 'update', round, attempt: 0 }, contributors);
      messages = new Map();
      for (const [site, envelope] of stored) {
        messages.set(site, histogramOf(course, fromBinary(UpdateSchema, envelopeFrom(envelope).body)));
      }
    }
    rounds.push({ round, contributors, messages });
  }
  return rounds;
}

/** Of a scorecard; other families have none here, and nothing asks for it. */
function interceptOf(modelJson: Buffer): number {
  const model: unknown = JSON.parse(modelJson.toString('utf8'));
  const intercept = typeof model === 'object' && model !== null && 'intercept' in model ? model.intercept : 0;
  return typeof intercept === 'number' ? intercept : 0;
}
