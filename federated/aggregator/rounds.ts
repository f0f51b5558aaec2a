/**
 * The course of a plan: starting it, closing its rounds, publishing its model, ending it.
 *
 * proposed -> counting (round 0) -> training (rounds up to E) -> [evaluating (round E + 1)] -> completed; the first three
 * may end in aborted, evaluating in completed without figures: a model that was paid for is published.
 * The next state depends on nothing but rows: a plan continued by another process after a crash gives the same model,
 * bit for bit, from the same messages. Sums and states are computed before the transaction that stores them.
 */

import { VeilriskError } from '../../src/errors.ts';
import {
  type Evaluated,
  evaluateModel,
  type ModelEvaluation,
  missingEvaluation,
} from '../../src/learning/modelEvaluation.ts';
import { canonicalBytes, sha256, sha256Hex } from '../protocol/canonical.ts';
import { modelMessageId } from '../protocol/client.ts';
import { envelopeBytes } from '../protocol/envelope.ts';
import { decodeHistogram, encodeHistogram } from '../protocol/histogram.ts';
import { encodeWeights, stateHash } from '../protocol/weights.ts';
import type { Board } from './board.ts';
import { commitStep, entry, type StepTaken } from './commit.ts';
import type { AggregatorEvent, Desk } from './desk.ts';
import { roundKey } from './due.ts';
import { noteOpening, openedEntries, openingEvents, openingOf, storeOpening } from './opening.ts';
import type { Transaction } from './store/database.ts';
import { loadSum, loadTrainerState, type RoundRow } from './store/plans.ts';

interface Trained {
  readonly document: object;
  readonly modelJson: Uint8Array<ArrayBuffer>;
  readonly modelHash: string;
  readonly intercept: number;
}

export async function startPlan(desk: Desk, board: Board, token: number, sites: string[]): Promise<boolean> {
  const { course, plan } = board;
  const { firstRound } = course;
  const next = openNext(desk, board, firstRound, course.firstState());
  const state = firstRound === 0 ? 'counting' : 'training';
  return commitStep(desk, board, token, {
    ...next,
    plan: { state, round: firstRound },
    entries: [entry('plan.started', { planId: plan.id, planHash: plan.planHash, sites }), ...(next.entries ?? [])],
    events: [{ event: 'plan', plan: plan.id, state, sites }, ...(next.events ?? [])],
  });
}

/** @param sum over `contributors`, in roster order. */
export async function closeRound(
  desk: Desk,
  board: Board,
  token: number,
  contributors: string[],
  sum: Float64Array,
): Promise<boolean> {
  const { course, plan, current: round } = board;
  if (round === undefined) return false;
  if (round.number === course.evaluation) return closeEvaluation(desk, board, token, round, contributors, sum);
  let state: string;
  let model: Trained | null;
  try {
    const counts = course.needsCounts(round.number) ? await countsOf(desk, board, contributors) : null;
    const before = await stateBefore(desk, board, round.number);
    state = course.nextState(before, round.number, sum, counts, contributors.length);
    // Also before an evaluation: a state that gives no model is found here, where it ends the plan.
    model = round.number === lastTraining(board) ? trained(board, state) : null;
  } catch (error) {
    if (!(error instanceof VeilriskError) || error.code === 'DATABASE_UNAVAILABLE') throw error;
    desk.log.error({ plan: plan.id, round: round.number, code: error.code }, error.message);
    const reason = `Round ${round.number} could not be absorbed: ${error.message}`;
    return abortPlan(desk, board, token, error.code, reason);
  }
  const closing = closeOf(desk, board, round, contributors, sum);
  if (model !== null && course.evaluation === null) {
    return commitStep(desk, board, token, both(closing, publication(desk, board, model, null)));
  }
  const before = round.contributors;
  // A masked round 0 decides who can be a member of the next.
  round.contributors = contributors;
  const next = openNext(desk, board, round.number + 1, state);
  round.contributors = before;
  const stage = model === null ? 'training' : 'evaluating';
  return commitStep(desk, board, token, both(closing, { ...next, plan: { state: stage, round: round.number + 1 } }));
}

/** An evaluation that cannot be estimated leaves the model without figures. */
async function closeEvaluation(
  desk: Desk,
  board: Board,
  token: number,
  round: RoundRow,
  contributors: string[],
  sum: Float64Array,
): Promise<boolean> {
  const model = trained(board, await stateBefore(desk, board, round.number));
  const subject = subjectOf(board, model);
  let evaluation: ModelEvaluation;
  try {
    evaluation = evaluateModel(subject, sum, contributors);
  } catch (error) {
    if (!(error instanceof VeilriskError)) throw error;
    desk.log.error({ plan: board.plan.id, round: round.number, code: error.code }, error.message);
    evaluation = missingEvaluation(subject, error.code, `The evaluation could not be estimated: ${error.message}`);
  }
  const closing = closeOf(desk, board, round, contributors, sum);
  return commitStep(desk, board, token, both(closing, publication(desk, board, model, evaluation)));
}

/** Publishes the model without the evaluation that will not come. */
export async function skipEvaluation(desk: Desk, board: Board, token: number, code: string, reason: string) {
  desk.log.warn({ plan: board.plan.id, code }, reason);
  const model = trained(board, await stateBefore(desk, board, board.plan.round));
  const published = publication(desk, board, model, missingEvaluation(subjectOf(board, model), code, reason));
  return commitStep(desk, board, token, both(closeWithout(board), published));
}

export async function abortPlan(desk: Desk, board: Board, token: number, code: string, reason: string) {
  const { id: plan } = board.plan;
  desk.log.warn({ plan, code }, reason);
  return commitStep(desk, board, token, {
    ...closeWithout(board),
    plan: { state: 'aborted', code, reason, ended: true },
    entries: [entry('plan.aborted', { planId: plan, code, reason }, 'aborted')],
    events: [{ event: 'plan', plan, state: 'aborted', code, reason }],
  });
}

/** Sum of round 0 over the given sites. */
async function countsOf(desk: Desk, board: Board, sites: readonly string[]): Promise<Float64Array> {
  if (!board.masked(0)) return desk.vectors.sum(board, 0, sites);
  // Under masks there is one sum, and later rounds are over the same sites: the plan's quorum is all of them.
  const packed = await loadSum(desk.database.pool, board.plan.id, 0);
  return decodeHistogram(packed ?? new Uint8Array(), board.course.dimension(0));
}

async function stateBefore(desk: Desk, board: Board, round: number): Promise<string> {
  return desk.states.get(board.plan.id, round) ?? loadTrainerState(desk.database.pool, board.plan.id, round);
}

function lastTraining({ course }: Board): number {
  return course.evaluation === null ? course.lastRound : course.lastRound - 1;
}

function trained(board: Board, state: string): Trained {
  const { document, intercept } = board.course.finish(state);
  const modelJson = canonicalBytes(document);
  return { document, modelJson, modelHash: sha256Hex(modelJson), intercept };
}

function subjectOf({ course }: Board, { modelHash, intercept }: Trained): Evaluated {
  return { plan: course.plan, planHash: course.planHash, modelHash, intercept };
}

function closeOf(desk: Desk, board: Board, round: RoundRow, contributors: string[], sum: Float64Array): StepTaken {
  const { plan, course } = board;
  const { number, attempt } = round;
  const kept = number === 0 && board.masked(0) ? Buffer.from(encodeHistogram(sum)) : null;
  const ms = Math.round(desk.deadlines.elapsed(roundKey(plan.id, number)));
  const of = course.plan.rounds;
  return {
    rows: (tx) =>
      tx.query({
        name: 'close-round',
        text: `UPDATE rounds SET state = 'closed', contributors = $3, sum = $4, closed_at = clock_timestamp()
               WHERE plan_id = $1 AND number = $2`,
        values: [plan.id, number, contributors, kept],
      }),
    entries: [
      entry('round.closed', {
        ...{ planId: plan.id, round: number, attempt, contributors },
        sum: Buffer.from(sha256(encodeWeights(sum))).toString('hex'),
      }),
    ],
    board: () => Object.assign(round, { open: false, contributors }),
    events: [{ event: 'round', plan: plan.id, round: number, of, contributions: contributors.length, ms }],
  };
}

function closeWithout(board: Board): StepTaken {
  const planId = board.plan.id;
  return {
    rows: (tx) =>
      tx.query(
        `UPDATE rounds SET state = 'closed', closed_at = clock_timestamp() WHERE plan_id = $1 AND state = 'open'`,
        [planId],
      ),
    board: () => Object.assign(board.current ?? {}, { open: false }),
  };
}

function publication(desk: Desk, board: Board, model: Trained, evaluation: ModelEvaluation | null): StepTaken {
  const { id: planId, planHash } = board.plan;
  const { modelJson, modelHash } = model;
  const evaluationJson = evaluation === null ? undefined : canonicalBytes(evaluation);
  const envelope = desk.party.seal('model', modelMessageId(planHash), {
    ...{ planId, planHash, modelJson, modelHash },
    ...(evaluationJson === undefined ? {} : { evaluationJson }),
  });
  const evaluationHash = evaluationJson === undefined ? null : sha256Hex(evaluationJson);
  return {
    plan: { state: 'completed', ended: true },
    rows: (tx) =>
      tx.query('INSERT INTO models (plan_id, model_json, model_hash, envelope) VALUES ($1, $2, $3, $4)', [
        ...[planId, Buffer.from(modelJson), modelHash, Buffer.from(envelopeBytes(envelope))],
      ]),
    entries: [
      { ...entry('model', { planId, planHash, evaluationHash }), modelHash },
      entry('plan.ended', { planId, state: 'completed' }),
    ],
    events: [
      { event: 'model', plan: planId, modelHash },
      { event: 'plan', plan: planId, state: 'completed' },
    ],
  };
}

/** The next round's row, and what its first attempt starts with. */
function openNext(desk: Desk, board: Board, number: number, state: string): StepTaken {
  const { plan, course } = board;
  const weights = course.weights(number, state);
  const hash = Buffer.from(stateHash(weights)).toString('hex');
  const opening = openingOf(desk, board, number);
  const { phase, epoch, slot, members } = opening;
  return {
    rows: async (tx: Transaction) => {
      await storeOpening(tx, plan.id, opening);
      await tx.query({
        name: 'open-round',
        text: `INSERT INTO rounds (plan_id, number, state, phase, trainer_state, state_hash, epoch, slot, members,
                 contributors, survivors) VALUES ($1, $2, 'open', $3, $4, $5, $6, $7, $8, '{}', '{}')`,
        values: [plan.id, number, phase, state, hash, epoch, slot, members],
      });
    },
    entries: openedEntries(board, { number, attempt: 0, stateHash: hash }, opening),
    events: openingEvents(board, number, 0, opening),
    board: () => {
      desk.weights.put(hash, weights);
      desk.states.put(plan.id, number, state);
      // Starts the round's clock.
      desk.deadlines.remaining(roundKey(plan.id, number), 0);
      noteOpening(board, opening);
      board.rounds.set(number, {
        ...{ number, open: true, phase, attempt: 0, extensions: 0, stateHash: hash, epoch, slot, members },
        ...{ contributors: [], survivors: [] },
      });
    },
  };
}

function both(first: StepTaken, second: StepTaken): StepTaken {
  const events: AggregatorEvent[] = [...(first.events ?? []), ...(second.events ?? [])];
  return {
    ...(second.plan === undefined ? {} : { plan: second.plan }),
    rows: async (tx) => {
      await first.rows?.(tx);
      await second.rows?.(tx);
    },
    entries: [...(first.entries ?? []), ...(second.entries ?? [])],
    board: () => {
      first.board?.();
      second.board?.();
    },
    events,
  };
}
