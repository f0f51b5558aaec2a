/** `veilrisk callers`: what callers had scored, how much they may, and their encryption keys, on the node's own store. */
import { type Command, InvalidArgumentError } from 'commander';
import { RequestError } from '../errors.ts';
import type { NodeFlags, OpenNode } from '../operations/context.ts';
import { listEncryptionKeys, revokeEncryptionKey } from '../operations/encryptionKeys.ts';
import { type CallerUsage, limitVectors, listUsage, usageOf } from '../operations/metering.ts';
import { integerOption } from './options.ts';
import { plainTable } from './text.ts';
import { withNodeOf } from './withNode.ts';

/** @param openNode opens the node of the flags; closed again when the verb ends */
export function registerCallers(program: Command, openNode: OpenNode): void {
  const callers = program
    .command('callers')
    .description('what callers had scored, how much they may, and their encryption keys');

  const withNode = withNodeOf(openNode);

  nodeFlags(callers.command('usage'))
    .description('distinct vectors that each caller had scored under each model, and its limit')
    .option('--owner <name>', 'of one caller: the name on its API keys')
    .option('--json', 'print an array of {owner, model: {hash, status}, vectors, limit, left} as JSON')
    .addHelpText(
      'after',
      `
A linear model of d dimensions can be worked out from d + 1 scores: a caller that had many more vectors scored than its
business explains is worth a question.

Examples:
  $ veilrisk callers usage
  $ veilrisk callers usage --owner partner-bank --json`,
    )
    .action(async (flags: NodeFlags & { owner?: string; json?: boolean }) => {
      const { owner } = flags;
      const usage = await withNode(flags, async (context): Promise<CallerUsage[]> => {
        if (owner === undefined) return listUsage(context);
        return (await usageOf(context, owner)).map((each) => ({ owner, ...each }));
      });
      if (flags.json) return printJson(usage);
      const rows = usage.map(({ owner, model, vectors, limit, left }) => [
        ...[owner, model.hash.slice(0, HASH_SHOWN), model.status, vectors, limit, left],
      ]);
      printTable(['caller', 'model', 'standing', 'vectors', 'limit', 'left'], rows, 3);
    });

  nodeFlags(callers.command('limit'))
    .description('set what one caller may have scored under each model; a running node obeys at once')
    .argument('<name>', 'the name on its API keys')
    .option('--vectors <count>', 'distinct vectors a model; 0 stops everything new', integerOption)
    .option('--general', "take the caller's own limit away: VEILRISK_VECTOR_LIMIT holds again")
    .option('--json', 'print {owner, vectors, previous, limit, known} as JSON')
    .addHelpText(
      'after',
      `
What was scored stays counted: a limit below it stops new vectors, and repeated ones are still answered.

Examples:
  $ veilrisk callers limit partner-bank --vectors 20000
  $ veilrisk callers limit partner-bank --general`,
    )
    .action(async (owner: string, flags: NodeFlags & { vectors?: number; general?: boolean; json?: boolean }) => {
      if ((flags.vectors === undefined) === (flags.general !== true)) {
        throw new RequestError('USAGE', 'Give either --vectors or --general.', { where: 'veilrisk callers limit' });
      }
      const vectors = flags.vectors ?? null;
      const change = await withNode(flags, (context) => limitVectors(context, { owner, vectors, actor: 'operator' }));
      if (!change.known) process.stderr.write(`No API key has the name ${owner} yet; see "veilrisk apikey list".\n`);
      if (flags.json) return printJson(change);
      const before = change.previous === null ? 'the general limit' : `${change.previous}`;
      const now = vectors === null ? "the general limit of the node's settings" : `${vectors} vectors a model`;
      process.stdout.write(`${owner}: ${now}${change.previous === vectors ? ', as before' : ` (before: ${before})`}\n`);
    });

  nodeFlags(callers.command('keys'))
    .description("callers' public encryption keys, newest first, at most 1000")
    .option('--owner <name>', 'of one caller: the name on its API keys')
    .option('--json', 'print an array as JSON')
    .addHelpText(
      'after',
      `
Examples:
  $ veilrisk callers keys --owner partner-bank
  $ veilrisk callers keys --json`,
    )
    .action(async (flags: NodeFlags & { owner?: string; json?: boolean }) => {
      const keys = await withNode(flags, (context) => listEncryptionKeys(context, flags.owner ?? null));
      if (flags.json) return printJson(keys);
      const rows = keys.map(({ keyId, owner, preset, createdAt, expiresAt, standing }) => [
        ...[keyId, owner, preset, createdAt, expiresAt ?? 'never', standing],
      ]);
      printTable(['key id', 'caller', 'preset', 'created', 'expires', 'standing'], rows, 6);
    });

  nodeFlags(callers.command('revoke-key'))
    .description("end a caller's encryption key; a running node refuses it at once")
    .argument('<key-id>', '64 hexadecimal digits, as "veilrisk callers keys" shows them', keyIdArgument)
    .option('--json', 'print the key as JSON')
    .addHelpText(
      'after',
      `
Requests under the key are refused with KEY_REVOKED, and its caller has to register another. To end the caller's access
as well, revoke its API key: "veilrisk apikey revoke".

Example:
  $ veilrisk callers revoke-key 3b1f...`,
    )
    .action(async (keyId: string, flags: NodeFlags & { json?: boolean }) => {
      const key = await withNode(flags, (context) =>
        revokeEncryptionKey(context, { keyId, owner: null, actor: 'operator' }),
      );
      if (flags.json) return printJson(key);
      process.stdout.write(`encryption key ${keyId} of ${key.owner} revoked at ${key.revokedAt}\n`);
    });
}

const HASH_SHOWN = 16;

function nodeFlags(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'where `node init` put the keys')
    .option('--database-url <url>', 'PostgreSQL of the node (better: environment DATABASE_URL)');
}

function keyIdArgument(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new InvalidArgumentError('It must be 64 lower-case hexadecimal digits.');
  return text;
}

function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function printTable(head: string[], rows: (string | number)[][], left: number): void {
  const table = plainTable(head, left);
  table.push(...rows);
  process.stdout.write(`${table.toString()}\n`);
}
