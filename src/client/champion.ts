/**
 * The node's current model, asked for once and again when a request was refused as made for another.
 *
 * Limit: a change is noticed by the refusal, not before; a node refuses every request for a model that is not its
 * champion.
 */
import { ClientError } from '../errors.ts';
import { parseModels, type ServedModel } from './replies.ts';
import type { Service } from './service.ts';
import { unlessCancelled } from './waiting.ts';

export interface Champion {
  /** The model remembered, or asked for. */
  current(signal?: AbortSignal): Promise<ServedModel>;
  /** The model after the one with this hash was refused; asked for once, however many requests found out. */
  after(refused: string, signal?: AbortSignal): Promise<ServedModel>;
}

/** @throws ClientError of `Service`, and SERVICE_REFUSED with NO_MODEL */
export function openChampion(service: Service): Champion {
  let known: Promise<ServedModel> | undefined;

  // Without a signal: the answer is for every call that waits, and only one of them may have been cancelled.
  function ask(): Promise<ServedModel> {
    const asking = listModels(service).then((models) => {
      const champion = models.find(({ status }) => status === 'champion');
      if (champion !== undefined) return champion;
      throw new ClientError('SERVICE_REFUSED', 'the node has no model yet', {
        where: '/v1/models',
        serviceCode: 'NO_MODEL',
        fix: 'Try again when a model has been adopted.',
      });
    });
    known = asking;
    // A failure is not remembered, unless something newer took its place.
    asking.catch(() => {
      if (known === asking) known = undefined;
    });
    return asking;
  }

  async function newerThan(refused: string): Promise<ServedModel> {
    const before = known ?? ask();
    const model = await before;
    if (model.hash !== refused) return model;
    // Whoever comes second finds the first one's question.
    return known === before ? ask() : (known ?? ask());
  }

  return {
    current: (signal) => unlessCancelled(known ?? ask(), signal),
    after: (refused, signal) => unlessCancelled(newerThan(refused), signal),
  };
}

export async function listModels(service: Service): Promise<ServedModel[]> {
  const path = '/v1/models';
  return parseModels(path, await service.json('GET', path));
}
