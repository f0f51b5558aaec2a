/**
 * Audit entries for refused calls, bounded so that whoever is refused cannot fill the log.
 *
 * The first refusal of a kind is its own entry, durable before the reply. Further ones of the same kind within
 * `WINDOW_MS` are only counted; one entry with the count follows when the window closes or the process stops. A kind is
 * (code, why, key prefix), and a prefix is used only when the registry knows it, because a caller can invent any other.
 * So an attacker without a key writes at most two entries a minute and kind, of which there are as many as reasons plus
 * known prefixes, while one wrong call still shows at once, and the sum of the counts is what was refused. A caller at its
 * limit of scored vectors is refused in the same way (metering.ts).
 * Limit: `kill -9` loses the counts, not the first entries, of the windows then open.
 */
import type { NodeContext } from './context.ts';

const WINDOW_MS = 60_000;

/** Why a call was refused; a closed set, since it bounds the number of audit entries. */
export type RefusalReason =
  | 'missing'
  | 'malformed'
  | 'unknown'
  | 'wrong-secret'
  | 'revoked'
  | 'expired'
  | 'scope'
  | 'vectors'
  | 'answers';

export interface Refusal {
  code: 'UNAUTHENTICATED' | 'FORBIDDEN' | 'VECTOR_LIMIT' | 'REQUEST_REPLAYED';
  why: RefusalReason;
  /** Prefix of a key that the registry knows; null otherwise. */
  keyPrefix: string | null;
}

export interface RefusalLog {
  /** Resolves when the refusal is durable or counted in an open window. */
  record(refusal: Refusal, requestId: string): Promise<void>;
  /** Writes what was counted and stops the timers; a refusal after that opens a new window. */
  close(): Promise<void>;
}

// Safe: one log per store, so that whoever closes it has written the counts of every operation that refuses.
const logs = new WeakMap<object, RefusalLog>();

/** The log of refusals of a node. */
export function refusalLogOf(context: Pick<NodeContext, 'store' | 'log' | 'clock'>): RefusalLog {
  const log = logs.get(context.store) ?? openRefusalLog(context);
  logs.set(context.store, log);
  return log;
}

interface Window {
  refusal: Refusal;
  from: Date;
  counted: number;
  timer: ReturnType<typeof setTimeout>;
}

export function openRefusalLog(
  context: Pick<NodeContext, 'store' | 'log' | 'clock'>,
  windowMs: number = WINDOW_MS,
): RefusalLog {
  const open = new Map<string, Window>();
  const closing = new Set<Promise<void>>();

  async function write(refusal: Refusal, details: Record<string, string | number>, requestId?: string): Promise<void> {
    await context.store.decisions.append({
      type: 'access.refuse',
      actor: refusal.keyPrefix === null ? 'anonymous' : `api-key:${refusal.keyPrefix}`,
      ...(requestId !== undefined && { requestId }),
      outcome: 'refused',
      reasonCodes: [refusal.code],
      details: { why: refusal.why, ...details },
    });
  }

  function finish(kind: string, window: Window): void {
    clearTimeout(window.timer);
    open.delete(kind);
    if (window.counted === 0) return;
    const details = { count: window.counted, from: window.from.toISOString(), to: context.clock().toISOString() };
    const written = write(window.refusal, details)
      .catch((cause: unknown) => context.log.error({ code: errorCode(cause), ...details }, 'refused calls not audited'))
      .finally(() => closing.delete(written));
    closing.add(written);
  }

  return {
    async record(refusal, requestId) {
      const kind = `${refusal.code} ${refusal.why} ${refusal.keyPrefix ?? ''}`;
      const window = open.get(kind);
      if (window !== undefined) {
        window.counted++;
        return;
      }
      const fresh: Window = {
        refusal,
        from: context.clock(),
        counted: 0,
        timer: setTimeout(() => finish(kind, fresh), windowMs).unref(),
      };
      open.set(kind, fresh);
      try {
        await write(refusal, { count: 1 }, requestId);
      } catch (cause) {
        fresh.counted++;
        throw cause;
      }
    },
    async close() {
      for (const [kind, window] of [...open]) finish(kind, window);
      await Promise.all(closing);
    },
  };
}

function errorCode(cause: unknown): unknown {
  return typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
}
