/** `GET /v1/usage`: what the caller had scored under each model, and what is left. Its own meters only. */
import type { RequestHandler } from 'express';
import type { NodeContext } from '../../operations/context.ts';
import { usageOf } from '../../operations/metering.ts';
import { callerOf } from '../authenticate.ts';

export function getUsage(context: NodeContext): RequestHandler {
  return async (_request, response) => {
    response.json({ usage: await usageOf(context, callerOf(response).owner) });
  };
}
