/** The operator ends a plan: at once, whoever drives it, and for ever. */

import { FederationError } from '../../src/errors.ts';
import type { Opened } from '../protocol/envelope.ts';
import { entry } from './commit.ts';
import { type Desk, printable } from './desk.ts';
import { mismatch } from './receive.ts';
import { checkPlanId, planUnknown, transaction } from './store/database.ts';
import { notify } from './store/notifications.ts';

export const OPERATOR_ABORT = 'OPERATOR_ABORT';

/** Idempotent. Throws PLAN_STATE for a plan that is completed. */
export async function abort(desk: Desk, opened: Opened<'abort'>) {
  const { planId, planHash } = opened.message;
  checkPlanId(planId);
  const reason = printable(opened.message.reason) || 'The operator ended the plan.';
  const isNew = await transaction(desk.database.pool, async (tx) => {
    const { rows } = await tx.query('SELECT plan_hash, state FROM plans WHERE id = $1 FOR NO KEY UPDATE', [planId]);
    if (rows.length === 0) throw planUnknown();
    if (rows[0].plan_hash !== planHash) throw mismatch('plan_hash', 'The message is about another plan.');
    if (rows[0].state === 'aborted') return false;
    if (rows[0].state === 'completed') {
      throw new FederationError('PLAN_STATE', 'The plan is completed; its model is published.', { where: planId });
    }
    // A higher token: a step its driver has in mind is refused.
    await tx.query(
      `UPDATE plans SET state = 'aborted', code = $2, reason = $3, ended_at = clock_timestamp(),
         revision = revision + 1, lease_token = lease_token + 1 WHERE id = $1`,
      [planId, OPERATOR_ABORT, reason],
    );
    await tx.query(
      `UPDATE rounds SET state = 'closed', closed_at = clock_timestamp() WHERE plan_id = $1 AND state = 'open'`,
      [planId],
    );
    const ended = entry('plan.aborted', { planId, code: OPERATOR_ABORT, reason }, 'aborted');
    await desk.journal?.append(tx, [{ ...ended, actor: 'operator' }]);
    await notify(tx, desk.process, planId);
    return true;
  });
  if (isNew) {
    desk.journal?.committed();
    desk.log.warn({ plan: planId, code: OPERATOR_ABORT }, reason);
    desk.sums.forget(planId);
    await desk.boards.refresh(planId);
    desk.announce([{ event: 'plan', plan: planId, state: 'aborted', code: OPERATOR_ABORT, reason }]);
  }
  return { planId, state: 'aborted' };
}
