/**
 * Which sum of a round this node helps to unmask: one, for ever, whatever the aggregator says and however often the node
 * was started in between.
 *
 * A bank's noised numbers of a round are the same in every attempt, so that it pays for them once. Two opened sums of them
 * over different banks would show what one bank gave, with its own noise only, which is a fraction of what was charged for.
 *
 * GUARANTEES.md: "Budget"
 */
import { LearningError, PrivacyError } from '../errors.ts';
import type { ReleaseTask, SumRelease } from '../participant/port.ts';
import type { NodeContext } from './context.ts';
import type { TrainingRefusals } from './trainingRefusals.ts';

/** Notes the sum with its audit entry before shares leave. @throws PrivacyError RELEASE_REPLAYED for a second sum. */
export async function noteOpenedSum(
  { store }: Pick<NodeContext, 'store'>,
  refusals: TrainingRefusals,
  sum: SumRelease,
): Promise<void> {
  const { planId, round, attempt } = sum;
  const plan = await store.plans.find(planId);
  if (plan?.state !== 'accepted') {
    throw new LearningError('TRAINING_INPUT', 'The node has not accepted this plan, or it has ended.', {
      where: planId,
    });
  }
  const agreement = Buffer.from(sum.agreement).toString('hex');
  const stands = await store.transaction(async (tx) => {
    const { isNew, row } = await tx.reveals.note(sum);
    const details = { planId, round, attempt, agreement };
    if (isNew) await tx.append({ type: 'sum.reveal', actor: 'node', outcome: 'opened', details });
    return row;
  });
  if (stands.attempt === attempt && Buffer.from(stands.agreement).equals(sum.agreement)) return;
  await refuse(refusals, { planId, round, attempt }, { agreement });
}

/** Before a masked input is made: for nothing but the attempt that was opened, if one was. @throws PrivacyError as above. */
export async function requireUnopened(
  { store }: Pick<NodeContext, 'store'>,
  refusals: TrainingRefusals,
  { plan, round, attempt }: ReleaseTask,
): Promise<void> {
  if (plan.mode !== 'sum') return;
  const opened = await store.reveals.find(plan.id, round);
  if (opened !== null && opened.attempt !== attempt) await refuse(refusals, { planId: plan.id, round, attempt }, {});
}

async function refuse(
  refusals: TrainingRefusals,
  { planId, round, attempt }: Omit<SumRelease, 'agreement'>,
  details: { [name: string]: string },
): Promise<never> {
  const code = 'RELEASE_REPLAYED';
  await refusals.record({ type: 'sum.reveal', code, planId, details: { round, attempt, ...details } });
  throw new PrivacyError(code, 'another sum of this round was opened before, and two would show what one bank gave', {
    where: `round ${round}, attempt ${attempt}`,
    fix: 'The aggregator has to end the plan; a new one is charged anew.',
  });
}
