/** `GET /v1/models`: the champion and its predecessors, and what the node keeps beside them; never their weights. */
import type { RequestHandler } from 'express';
import type { NodeContext } from '../../operations/context.ts';
import { listKept } from '../../operations/keptModels.ts';
import { listModels } from '../../operations/models.ts';

export function getModels(context: NodeContext): RequestHandler {
  return async (_request, response) => {
    response.json({ models: await listModels(context), kept: await listKept(context) });
  };
}
