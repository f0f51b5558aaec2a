/** A verb that works on a node: opened for it, and closed again whatever happens. */
import type { NodeContext, NodeFlags, OpenNode } from '../operations/context.ts';

export type WithNode = <T>(flags: NodeFlags, action: (context: NodeContext) => Promise<T>) => Promise<T>;

export function withNodeOf(openNode: OpenNode): WithNode {
  return async (flags, action) => {
    const context = await openNode(flags);
    try {
      return await action(context);
    } finally {
      await context.close();
    }
  };
}
