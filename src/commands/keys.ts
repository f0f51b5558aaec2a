/** `veilrisk keys`: the caller's key files, and the life of their public parts at a node. */
import { type Command, Option } from 'commander';
import type { KeyState } from '../client/client.ts';
import type { Settings } from '../config.ts';
import {
  createKeyFile,
  listKeys,
  readPublicPart,
  registerKeyFile,
  revokeKey,
  rotateKeyFile,
} from '../operations/callerKeys.ts';
import {
  PASSPHRASE_HELP,
  passphraseFlag,
  passphraseOf,
  SERVICE_HELP,
  type ServiceFlags,
  serviceFlags,
  serviceOf,
} from './callerOptions.ts';
import { integerOption } from './options.ts';
import { plainTable } from './text.ts';

type PassphraseFlags = { passphraseFile?: string };
type PresetFlags = { preset?: 'standard' | 'conservative' };
type JsonFlags = { json?: boolean };

export function registerKeys(program: Command, settings: Settings): void {
  const keys = program
    .command('keys')
    .description("a caller's keys for encrypted scoring: create, show, register, rotate, revoke, list");

  passphraseFlag(keys.command('create'))
    .description('make a key pair in a new file under a passphrase, and print its key id')
    .argument('<file>', 'the key file; never overwritten')
    .addOption(presetOption().default('standard'))
    .option('--json', 'print {keyId, preset, file} as JSON')
    .addHelpText(
      'after',
      `
Who has the file and the passphrase can read every reply to requests made with it. Neither can be recovered: keep a
copy of both, apart from each other. The file can be read by this user only (mode 0600).
${PASSPHRASE_HELP}

Examples:
  $ veilrisk keys create caller.vrk
  $ veilrisk keys create caller.vrk --preset conservative --passphrase-file /run/secrets/passphrase`,
    )
    .action(async (file: string, flags: PassphraseFlags & PresetFlags & JsonFlags) => {
      const passphrase = await passphraseOf(flags, settings, { what: file, twice: true });
      const { keyId, preset } = await createKeyFile(file, flags.preset ?? 'standard', passphrase);
      process.stdout.write(flags.json ? `${JSON.stringify({ keyId, preset, file })}\n` : `${keyId}\n`);
      process.stderr.write(
        `created ${file}; register it with: veilrisk keys register ${file} --url URL --api-key-file FILE\n`,
      );
    });

  keys
    .command('show')
    .description('what a key file shows without its passphrase: key id and preset')
    .argument('<file>', 'the key file')
    .option('--json', 'print {keyId, preset, publicKeyBytes} as JSON')
    .addHelpText('after', '\nExample:\n  $ veilrisk keys show caller.vrk')
    .action(async (file: string, { json }: JsonFlags) => {
      const { keyId, preset, publicKey } = await readPublicPart(file);
      const shown = { keyId, preset, publicKeyBytes: publicKey.length };
      process.stdout.write(
        json
          ? `${JSON.stringify(shown)}\n`
          : `key id      ${keyId}\npreset      ${preset}\npublic key  ${publicKey.length.toLocaleString('en-US')} bytes\n`,
      );
    });

  serviceFlags(keys.command('register'))
    .description('register the public part of a key file at a node; again changes nothing; needs no passphrase')
    .argument('<file>', 'the key file')
    .option('--days <number>', "days it is usable (default: the node's limit)", integerOption)
    .option('--json', "print the node's answer as JSON")
    .addHelpText(
      'after',
      `${SERVICE_HELP}

Example:
  $ veilrisk keys register caller.vrk --url https://scores.bank.example --api-key-file api-key --days 90`,
    )
    .action(async (file: string, flags: ServiceFlags & JsonFlags & { days?: number }) => {
      const key = await registerKeyFile(await serviceOf(flags, settings), file, flags);
      process.stdout.write(
        flags.json ? `${JSON.stringify(key)}\n` : `registered ${key.keyId}, ${untilWhen(key)}; ${entryOf(key)}\n`,
      );
    });

  passphraseFlag(serviceFlags(keys.command('rotate')))
    .description('put a new key in the place of a registered one, which stays usable for the grace time')
    .argument('<old>', 'key file of the registered key')
    .argument('<new>', 'key file of the new key; created when it does not exist')
    .option('--grace-hours <number>', 'hours the old key stays usable at most, 0 to 720 (default: 24)', integerOption)
    .option('--days <number>', "days the new key is usable (default: the node's limit)", integerOption)
    .addOption(presetOption('of a new key that is created (default: as the old one)'))
    .option('--json', 'print {key, replaced} as JSON')
    .addHelpText(
      'after',
      `
The same command again, after a crash or a lost answer, uses the new file that is there and changes nothing twice.
Keep the old file until its replies have been read.
${SERVICE_HELP}${PASSPHRASE_HELP}

Example:
  $ veilrisk keys rotate caller.vrk caller-2.vrk --url https://scores.bank.example --grace-hours 48`,
    )
    .action(
      async (
        old: string,
        next: string,
        flags: ServiceFlags & PassphraseFlags & PresetFlags & JsonFlags & { graceHours?: number; days?: number },
      ) => {
        const passphrase = () => passphraseOf(flags, settings, { what: next, twice: true });
        const service = await serviceOf(flags, settings);
        const { key, replaced, created } = await rotateKeyFile(service, { old, next }, { ...flags, passphrase });
        if (flags.json) {
          process.stdout.write(`${JSON.stringify({ key, replaced })}\n`);
          return;
        }
        process.stdout.write(
          `new  ${key.keyId}, ${untilWhen(key)} (${next}, ${created ? 'created' : 'existed'})\n` +
            `old  ${replaced.keyId}, ${untilWhen(replaced)} (${old})\n${entryOf(key)}\n`,
        );
      },
    );

  serviceFlags(keys.command('revoke'))
    .description('end a key at a node, now and for good; again changes nothing')
    .argument('<key>', 'the key file, or a key id of 64 digits')
    .option('--json', "print the node's answer as JSON")
    .addHelpText(
      'after',
      `${SERVICE_HELP}

Examples:
  $ veilrisk keys revoke caller.vrk --url https://scores.bank.example
  $ veilrisk keys revoke 6f1c…64 digits…9a --url https://scores.bank.example --api-key-file api-key`,
    )
    .action(async (key: string, flags: ServiceFlags & JsonFlags) => {
      const state = await revokeKey(await serviceOf(flags, settings), key);
      process.stdout.write(
        flags.json ? `${JSON.stringify(state)}\n` : `revoked ${state.keyId} at ${state.revokedAt}\n`,
      );
    });

  serviceFlags(keys.command('list'))
    .description("the keys registered under this API key's name, newest first")
    .option('--json', 'print an array as JSON')
    .addHelpText(
      'after',
      `${SERVICE_HELP}

Example:
  $ veilrisk keys list --url https://scores.bank.example --json`,
    )
    .action(async (flags: ServiceFlags & JsonFlags) => {
      const list = await listKeys(await serviceOf(flags, settings));
      if (flags.json) {
        process.stdout.write(`${JSON.stringify(list)}\n`);
        return;
      }
      if (list.length === 0) {
        process.stdout.write('no keys are registered\n');
        return;
      }
      const table = plainTable(['key id', 'preset', 'created', 'standing', 'replaced by'], 5);
      for (const key of list) {
        table.push([
          key.keyId.slice(0, SHOWN_DIGITS),
          key.preset,
          key.createdAt.slice(0, 16),
          untilWhen(key),
          key.replacedBy?.slice(0, SHOWN_DIGITS) ?? '',
        ]);
      }
      process.stdout.write(`${table.toString()}\n--json gives the key ids in full\n`);
    });
}

const SHOWN_DIGITS = 16;

function presetOption(description = 'strength: standard, or conservative with larger messages'): Option {
  return new Option('--preset <preset>', description).choices(['standard', 'conservative']);
}

function untilWhen({ standing, expiresAt, revokedAt }: KeyState): string {
  if (standing === 'revoked') return `revoked at ${revokedAt}`;
  if (standing === 'expired') return `expired at ${expiresAt}`;
  return expiresAt === null ? 'usable until it is revoked' : `usable until ${expiresAt}`;
}

function entryOf({ audit }: { audit: { index: number } }): string {
  return `audit entry ${audit.index} of the node`;
}
