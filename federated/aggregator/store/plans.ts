/**
 * A plan read whole, in one statement and so from one snapshot: its row, answers, the rounds and epochs that matter now,
 * and the messages of the open round. What is large (trainer states, updates, shares) is read when it is needed.
 */

import type pg from 'pg';
import type { MessageKindStored } from './messages.ts';

export interface PlanRow {
  readonly id: string;
  readonly planHash: string;
  readonly planJson: Uint8Array;
  readonly contractJson: Uint8Array;
  /** The operator's SignedEnvelope. */
  readonly proposal: Uint8Array;
  readonly rosterHash: string;
  readonly acceptanceDeadlineMs: number;
  state: string;
  code: string;
  reason: string;
  round: number;
  revision: number;
  ended: boolean;
}

export interface AnswerRow {
  readonly site: string;
  readonly accepted: boolean;
  acknowledged: boolean;
}

export type RoundPhase = 'setup' | 'inputs' | 'agreement' | 'reveal';

export interface RoundRow {
  readonly number: number;
  open: boolean;
  phase: RoundPhase;
  attempt: number;
  extensions: number;
  /** 64 hex. */
  readonly stateHash: string;
  epoch: number;
  slot: number;
  contributors: readonly string[];
  members: readonly string[];
  survivors: readonly string[];
}

export interface EpochRow {
  readonly number: number;
  phase: 'keys' | 'shares' | 'ready';
  readonly slots: number;
  nextSlot: number;
  /** `site/incarnation` of those connected when it was opened. */
  readonly asked: readonly string[];
  advertisers: readonly string[];
  holders: readonly string[];
}

/** What is kept in memory of a message: its place and digest, and the bytes where other sites are shown them. */
export interface KeptMessage {
  readonly kind: MessageKindStored;
  readonly round: number;
  readonly attempt: number;
  readonly site: string;
  readonly messageId: string;
  readonly bodyDigest: string;
  readonly refused: boolean;
  /** Of keys, agreements and reveals; else null. */
  readonly envelope: Uint8Array | null;
}

export interface PlanSnapshot {
  readonly plan: PlanRow;
  readonly answers: readonly AnswerRow[];
  readonly rounds: readonly RoundRow[];
  /** The newest two, oldest first. */
  readonly epochs: readonly EpochRow[];
  readonly messages: readonly KeptMessage[];
}

/** Plans that are open, and ended ones of which an accepting site does not know yet; oldest first. */
const UNFINISHED = `(p.ended_at IS NULL OR EXISTS (
  SELECT 1 FROM answers a WHERE a.plan_id = p.id AND a.accepted AND a.acknowledged_at IS NULL))`;

const LOAD = `
SELECT p.id, p.plan_hash AS "planHash", p.plan_json AS "planJson", p.contract_json AS "contractJson", p.proposal,
  p.roster_hash AS "rosterHash", p.acceptance_deadline_ms AS "acceptanceDeadlineMs", p.state, p.code, p.reason, p.round,
  p.revision, p.ended_at IS NOT NULL AS ended,
  (SELECT coalesce(json_agg(json_build_object('site', a.site, 'accepted', a.accepted,
      'acknowledged', a.acknowledged_at IS NOT NULL) ORDER BY a.site), '[]')
    FROM answers a WHERE a.plan_id = p.id) AS answers,
  (SELECT coalesce(json_agg(json_build_object('number', r.number, 'open', r.state = 'open', 'phase', r.phase,
      'attempt', r.attempt, 'extensions', r.extensions, 'stateHash', r.state_hash, 'epoch', r.epoch, 'slot', r.slot,
      'contributors', coalesce(r.contributors, '{}'), 'members', coalesce(r.members, '{}'),
      'survivors', coalesce(r.survivors, '{}')) ORDER BY r.number), '[]')
    FROM rounds r WHERE r.plan_id = p.id AND r.number IN (0, p.round - 1, p.round)) AS rounds,
  (SELECT coalesce(json_agg(json_build_object('number', e.number, 'phase', e.phase, 'slots', e.slots,
      'nextSlot', e.next_slot, 'asked', coalesce(e.asked, '{}'), 'advertisers', coalesce(e.advertisers, '{}'),
      'holders', coalesce(e.holders, '{}')) ORDER BY e.number), '[]')
    FROM (SELECT * FROM epochs WHERE plan_id = p.id ORDER BY number DESC LIMIT 2) e) AS epochs,
  (SELECT coalesce(json_agg(json_build_object('kind', m.kind, 'round', m.round, 'attempt', m.attempt, 'site', m.site,
      'messageId', m.message_id, 'bodyDigest', m.body_digest, 'refused', m.refused,
      'envelope', CASE WHEN m.kind IN ('keys', 'agreement', 'reveal') THEN encode(m.envelope, 'base64') END)), '[]')
    FROM messages m WHERE m.plan_id = p.id AND p.ended_at IS NULL AND (
      (m.kind IN ('update', 'agreement', 'reveal') AND m.round = p.round) OR (m.kind = 'update' AND m.round = 0) OR
      (m.kind IN ('keys', 'shares') AND m.round = (SELECT max(number) FROM epochs WHERE plan_id = p.id)))) AS messages
FROM plans p`;

interface Loaded extends PlanRow {
  answers: AnswerRow[];
  rounds: RoundRow[];
  epochs: EpochRow[];
  messages: (Omit<KeptMessage, 'envelope'> & { envelope: string | null })[];
}

export async function loadUnfinished(pool: pg.Pool): Promise<PlanSnapshot[]> {
  const { rows } = await pool.query<Loaded>(`${LOAD} WHERE ${UNFINISHED} ORDER BY p.created_at`);
  return rows.map(snapshotOf);
}

/** @returns null when there is no such plan. */
export async function loadPlan(pool: pg.Pool, planId: string): Promise<PlanSnapshot | null> {
  const { rows } = await pool.query<Loaded>(`${LOAD} WHERE p.id = $1`, [planId]);
  return rows.length === 0 ? null : snapshotOf(rows[0]);
}

function snapshotOf({ answers, rounds, epochs, messages, ...plan }: Loaded): PlanSnapshot {
  const kept = messages.map(({ envelope, ...message }) => ({
    ...message,
    envelope: envelope === null ? null : new Uint8Array(Buffer.from(envelope, 'base64')),
  }));
  return { plan, answers, rounds, epochs, messages: kept };
}

/** The trainer's state a round was opened with. */
export async function loadTrainerState(pool: pg.Pool, planId: string, round: number): Promise<string> {
  const { rows } = await pool.query<{ trainer_state: string }>(
    'SELECT trainer_state FROM rounds WHERE plan_id = $1 AND number = $2',
    [planId, round],
  );
  return rows[0].trainer_state;
}

/** The sum kept of a masked round 0, encoded as a histogram; null in a plain one. */
export async function loadSum(pool: pg.Pool, planId: string, round: number): Promise<Uint8Array | null> {
  const { rows } = await pool.query<{ sum: Buffer | null }>(
    'SELECT sum FROM rounds WHERE plan_id = $1 AND number = $2',
    [planId, round],
  );
  return rows[0]?.sum ?? null;
}

/** Stored envelopes of one step by site, of the named sites that are there. */
export async function loadEnvelopes(
  pool: pg.Pool,
  step: { planId: string; kind: MessageKindStored; round: number; attempt: number },
  sites: readonly string[],
): Promise<Map<string, Uint8Array>> {
  const { rows } = await pool.query<{ site: string; envelope: Buffer }>({
    name: 'load-envelopes',
    text: `SELECT site, envelope FROM messages
           WHERE plan_id = $1 AND kind = $2 AND round = $3 AND attempt = $4 AND site = ANY($5) AND NOT refused`,
    values: [step.planId, step.kind, step.round, step.attempt, sites],
  });
  return new Map(rows.map(({ site, envelope }) => [site, new Uint8Array(envelope)]));
}
