/**
 * What every operation of a node stands on: its store, keys, policies and clock. Made once by a command, closed by it.
 *
 * A data directory holds the private keys (mode 0600) and, unless DATABASE_URL names another server, the embedded
 * database. Trusted: who can read the directory holds the bank's identity; who can write it sets its policies.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, mkdir, open, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { IdentityKey } from '../../federated/protocol/identity.ts';
import { encodeVerifierKey, type LogSigner } from '../audit/note.ts';
import type { Settings } from '../config.ts';
import { startEmbeddedPostgres } from '../database/embeddedServer.ts';
import { RequestError } from '../errors.ts';
import { type Log, openLog } from '../log.ts';
import { defaultParticipation, type ParticipationPolicy, parseParticipationPolicy } from '../participant/policy.ts';
import { type Budget, openBudget } from '../privacy/budget.ts';
import { type RandomSource, systemRandom } from '../random.ts';
import { fileAnchor } from '../store/anchor.ts';
import { type NodeStore, openNodeStore } from '../store/nodeStore.ts';
import { type EncryptionPool, openEncryptionPool } from '../workers/encryptionPool.ts';
import { openTrainingPool, type TrainingPool } from '../workers/trainingPool.ts';
import { type DecisionPolicy, defaultPolicy, parsePolicy } from './policy.ts';
import { readJson } from './trainingPlans.ts';

export interface NodeContext {
  /** Site id. */
  name: string;
  store: NodeStore;
  log: Log;
  clock: () => Date;
  random: RandomSource;
  /** The HE worker threads; opened by `node start` only. */
  encryption: EncryptionPool | null;
  /** The thread for passes over the records; it starts with the first one. */
  training: TrainingPool;
  limits: ServiceLimits;
  policy: DecisionPolicy;
  participation: ParticipationPolicy;
  /** What a data set of this node may release in total, set when the data set is created. */
  budget: Budget;
  identity: IdentityKey;
  /** HMAC key for customer keys and for choosing which of a customer's records count. */
  subjectKey: Uint8Array;
  /** The data directory, where evidence against a log is written too; without one it is in the database only. */
  dataDir?: string;
  close(): Promise<void>;
}

/** What callers of the API may have of this node. */
export interface ServiceLimits {
  /** Distinct vectors one caller may have scored under one model, unless it has a limit of its own. */
  vectors: number;
  /** Days a registered encryption key is usable at most. */
  keyDays: number;
  /** Origins whose pages may call the API from a browser. */
  origins: readonly string[];
}

export const DEFAULT_LIMITS: ServiceLimits = { vectors: 1_000_000, keyDays: 365, origins: [] };

export interface NodeFlags {
  dataDir?: string;
  databaseUrl?: string;
  /** Opens the HE worker threads too. */
  encryption?: boolean;
}

export type OpenNode = (flags: NodeFlags) => Promise<NodeContext>;

export interface SiteCard {
  id: string;
  /** Raw Ed25519 public key, base64: what the roster needs. */
  identityKey: string;
}

const FILES = {
  node: 'node.json',
  identity: 'identity.pem',
  log: 'log.pem',
  anchor: 'audit.checkpoint',
  subject: 'subject.key',
  participation: 'participation-policy.json',
  decision: 'decision-policy.json',
};
const SITE_ID = /^[a-z0-9][a-z0-9-]{0,62}$/;
const DEFAULT_BUDGET = { epsilon: 2, delta: 1e-6 };
const ENCRYPTION_TIMEOUT_MS = 30_000;
const ENCRYPTION_QUEUE = 64;

/**
 * Creates a node's keys and default policies in an empty directory.
 * @throws RequestError CONFIGURATION when the name does not fit or the directory holds a node already.
 */
export async function initNode(options: {
  name?: string | undefined;
  dataDir: string;
  budget?: { epsilon: number; delta: number };
  /** Leaves an existing node as it is. */
  unlessExists?: boolean;
}): Promise<SiteCard> {
  const dir = resolve(options.dataDir);
  if (existsSync(join(dir, FILES.node))) {
    if (options.unlessExists) return siteCard(dir);
    throw new RequestError('CONFIGURATION', 'the data directory holds a node already', {
      where: dir,
      fix: 'choose another --data-dir; an existing identity is never replaced',
    });
  }
  const { name } = options;
  if (name === undefined || !SITE_ID.test(name)) {
    throw new RequestError('CONFIGURATION', 'a site id is 1 to 63 of a-z, 0-9 and "-"', { where: '--name' });
  }
  const budget = options.budget ?? DEFAULT_BUDGET;
  openBudget(budget.epsilon, budget.delta);
  await mkdir(dir, { recursive: true });
  // Search permission only: the database's user has to reach its folder inside, nobody has to list this one.
  await chmod(dir, 0o711);
  await IdentityKey.create().save(join(dir, FILES.identity));
  await IdentityKey.create().save(join(dir, FILES.log));
  await writeSecret(join(dir, FILES.subject), randomBytes(32));
  await writeJson(join(dir, FILES.participation), defaultParticipation(budget));
  await writeJson(join(dir, FILES.decision), defaultPolicy());
  // Last: its presence says that the directory is complete.
  await writeJson(join(dir, FILES.node), { format: 'veilrisk-node/1', id: name, budget });
  return siteCard(dir);
}

export async function openNode(settings: Settings, flags: NodeFlags): Promise<NodeContext> {
  const dir = resolve(flags.dataDir ?? settings.VEILRISK_DATA_DIR);
  if (!existsSync(join(dir, FILES.node))) {
    throw new RequestError('CONFIGURATION', 'there is no node in the data directory', {
      where: dir,
      fix: 'run `veilrisk node init --name NAME --data-dir DIR` first, or give --data-dir',
    });
  }
  const { id, budget } = parseNodeFile(await readJson(join(dir, FILES.node)), join(dir, FILES.node));
  // A command for a person stays silent about what works; a server tells.
  const level = settings.VEILRISK_LOG_LEVEL;
  const log = openLog(id, level === 'info' && !flags.encryption ? 'warn' : level);
  const identity = await IdentityKey.load(join(dir, FILES.identity));
  const logKey = await IdentityKey.load(join(dir, FILES.log));
  const participation = parseParticipationPolicy(await readJson(join(dir, FILES.participation)));
  const policy = parsePolicy(await readJson(join(dir, FILES.decision)));
  const subjectKey = await readFile(join(dir, FILES.subject));

  const url = flags.databaseUrl ?? settings.DATABASE_URL;
  const server = url === undefined ? await startEmbeddedPostgres({ dataDir: join(dir, 'postgres'), log }) : null;
  const closers: (() => Promise<void>)[] = server ? [() => server.release()] : [];
  const close = async () => {
    for (const closer of closers.splice(0).reverse()) await closer();
  };
  try {
    const anchor = fileAnchor(join(dir, FILES.anchor));
    const store = await openNodeStore({ url: url ?? server?.url ?? '', logSigner: logSigner(id, logKey), anchor });
    closers.push(() => store.close());
    const card = { name: id, publicKey: identity.publicKey, logVerifierKey: store.audit.verifierKey };
    await store.transaction((tx) => tx.identity.claim(card));
    let encryption: EncryptionPool | null = null;
    if (flags.encryption) {
      encryption = openEncryptionPool({
        threads: settings.VEILRISK_ENCRYPTION_THREADS,
        timeoutMs: ENCRYPTION_TIMEOUT_MS,
        queueLimit: ENCRYPTION_QUEUE,
        log,
      });
      const pool = encryption;
      closers.push(() => pool.close());
    }
    const training = openTrainingPool({ log });
    closers.push(() => training.close());
    return {
      ...{
        name: id,
        store,
        log,
        encryption,
        training,
        policy,
        participation,
        identity,
        subjectKey,
        close,
        dataDir: dir,
      },
      limits: {
        vectors: settings.VEILRISK_VECTOR_LIMIT,
        keyDays: settings.VEILRISK_KEY_DAYS,
        origins: settings.VEILRISK_CORS_ORIGINS,
      },
      clock: () => new Date(),
      random: systemRandom(),
      budget: openBudget(budget.epsilon, budget.delta),
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function siteCard(dir: string): Promise<SiteCard> {
  const { id } = parseNodeFile(await readJson(join(dir, FILES.node)), join(dir, FILES.node));
  const identity = await IdentityKey.load(join(dir, FILES.identity));
  return { id, identityKey: identity.publicKey };
}

function parseNodeFile(json: unknown, where: string): { id: string; budget: { epsilon: number; delta: number } } {
  // Safe: any JSON value but null has members or none; all are checked below.
  const { format, id, budget } = (json ?? {}) as Record<string, unknown>;
  const { epsilon, delta } = (budget ?? {}) as Record<string, unknown>;
  if (
    format !== 'veilrisk-node/1' ||
    typeof id !== 'string' ||
    typeof epsilon !== 'number' ||
    typeof delta !== 'number'
  ) {
    throw new RequestError('CONFIGURATION', 'the node file does not fit', {
      where,
      fix: '{"format":"veilrisk-node/1","id":NAME,"budget":{"epsilon":NUMBER,"delta":NUMBER}}',
    });
  }
  return { id, budget: { epsilon, delta } };
}

async function writeSecret(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeJson(path: string, value: object): Promise<void> {
  const file = await open(path, 'wx', 0o644);
  try {
    await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}

function logSigner(name: string, key: IdentityKey): LogSigner {
  const origin = `${name}/audit`;
  return {
    origin,
    verifierKey: encodeVerifierKey(origin, Buffer.from(key.publicKey, 'base64')),
    sign: async (bytes) => key.sign(bytes),
  };
}
