/** `veilrisk apikey`: who may call the REST API. */
import { type Command, InvalidArgumentError } from 'commander';
import { createApiKey, listApiKeys, revokeApiKey, SCOPES, type Scope } from '../operations/apiKeys.ts';
import type { OpenNode } from '../operations/context.ts';
import { integerOption } from './options.ts';
import { plainTable } from './text.ts';
import { withNodeOf } from './withNode.ts';

/** @param openNode opens the node of the flags; closed again when the verb ends */
export function registerApiKey(program: Command, openNode: OpenNode): void {
  const apikey = program.command('apikey').description('who may call the REST API: create, list and revoke keys');

  const withNode = withNodeOf(openNode);

  nodeFlags(apikey.command('create'))
    .description('make a key and print it, once: only its hash is kept')
    .requiredOption(
      '--name <name>',
      'who gets it; encryption keys belong to this name, so keep it when a key is renewed',
    )
    .option('--scopes <list>', `comma-separated, of ${SCOPES.join(', ')}`, scopesOption, [...SCOPES])
    .option('--days <number>', 'days until it expires; without it the key does not expire', integerOption)
    .option('--json', 'print {key, prefix, name, scopes, expiresAt} as JSON')
    .addHelpText(
      'after',
      `
The key alone goes to standard output, so that it can go straight into a secret store.

Examples:
  $ veilrisk apikey create --name branch-system
  $ veilrisk apikey create --name partner-bank --scopes score,models --days 90 --json`,
    )
    .action(async (flags) => {
      const created = await withNode(flags, (context) =>
        createApiKey(context, { name: flags.name, scopes: flags.scopes, days: flags.days, actor: 'operator' }),
      );
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(created)}\n`);
        return;
      }
      process.stderr.write(
        `API key ${created.prefix} for ${created.name}: ${created.scopes.join(', ')}; ` +
          `${created.expiresAt === null ? 'does not expire' : `expires ${created.expiresAt}`}. It is shown only now:\n`,
      );
      process.stdout.write(`${created.key}\n`);
    });

  nodeFlags(apikey.command('list'))
    .description('prefixes, names, scopes and standing of all keys; never the keys')
    .option('--json', 'print an array as JSON')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk apikey list --json`,
    )
    .action(async (flags) => {
      const keys = await withNode(flags, listApiKeys);
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(keys)}\n`);
        return;
      }
      const table = plainTable(['prefix', 'name', 'scopes', 'created', 'standing'], 5);
      for (const { prefix, name, scopes, createdAt, standing } of keys) {
        table.push([prefix, name, scopes.join(', '), createdAt, standing]);
      }
      process.stdout.write(`${table.toString()}\n`);
    });

  nodeFlags(apikey.command('revoke'))
    .description('end a key; a running node refuses it within 3 seconds')
    .argument('<prefix>', 'the 8 characters after "vrk_"')
    .addHelpText(
      'after',
      `
Example:
  $ veilrisk apikey revoke q7m2xk4a`,
    )
    .action(async (prefix: string, flags) => {
      const { revokedAt } = await withNode(flags, (context) => revokeApiKey(context, { prefix, actor: 'operator' }));
      process.stdout.write(`API key ${prefix} revoked at ${revokedAt}\n`);
    });
}

function nodeFlags(command: Command): Command {
  return command
    .option('--data-dir <dir>', 'where `node init` put the keys')
    .option('--database-url <url>', 'PostgreSQL of the node (better: environment DATABASE_URL)');
}

function scopesOption(list: string): Scope[] {
  const scopes = list.split(',').map((scope) => scope.trim());
  const unknown = scopes.find((scope) => !SCOPES.some((known) => known === scope));
  if (unknown !== undefined) throw new InvalidArgumentError(`"${unknown}" is not one of ${SCOPES.join(', ')}`);
  // Safe: every member was compared with SCOPES above.
  return [...new Set(scopes)] as Scope[];
}
