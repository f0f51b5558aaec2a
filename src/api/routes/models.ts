/** `GET /v1/models`: the champion and its predecessors, never their weights. */
import type { RequestHandler } from 'express';
import type { NodeContext } from '../../operations/context.ts';
import { listModels } from '../../operations/models.ts';

export function getModels(context: NodeContext): RequestHandler {
  return async (_request, response) => {
    response.json({ models: await listModels(context) });
  };
}
