/** `/healthz`: the process runs. `/readyz`: it can score. Neither needs a key or tells more than names of parts. */
import type { RequestHandler } from 'express';
import type { NodeContext } from '../../operations/context.ts';
import { readiness } from '../../operations/readiness.ts';

export const getHealth: RequestHandler = (_request, response) => {
  response.json({ status: 'alive' });
};

export function getReadiness(context: NodeContext): RequestHandler {
  return async (_request, response) => {
    const missing = await readiness(context);
    if (missing.length > 0) response.set('Retry-After', '5');
    response
      .status(missing.length === 0 ? 200 : 503)
      .json({ status: missing.length === 0 ? 'ready' : 'not ready', missing });
  };
}
