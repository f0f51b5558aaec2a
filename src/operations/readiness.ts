/** What a node still lacks before it can score, for `/readyz` and health checks. */

import { RequestError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { NodeContext } from './context.ts';
import { champion } from './models.ts';

export type Missing = 'database' | 'champion model' | 'encryption pool';

/** Empty when the node is ready. An open store has its migrations applied, so a database that answers is complete. */
export async function readiness(context: NodeContext): Promise<Missing[]> {
  const missing: Missing[] = [];
  if (await context.store.ping()) {
    try {
      await champion(context);
    } catch (error) {
      if (!(error instanceof RequestError && error.code === 'NO_MODEL')) logReason(context.log, error);
      missing.push('champion model');
    }
  } else {
    missing.push('database');
  }
  if (context.encryption === null || !context.encryption.ready()) missing.push('encryption pool');
  return missing;
}

function logReason(log: Log, error: unknown): void {
  log.warn({ code: error instanceof Error && 'code' in error ? error.code : undefined }, 'not ready');
}
