/**
 * What the caller's verbs share: where the node is, the API key and the passphrase. Neither secret is ever an argument,
 * which every user of the machine could read in the process list.
 */
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { Command } from 'commander';
import type { Settings } from '../config.ts';
import { ContractError, RequestError } from '../errors.ts';

export interface ServiceFlags {
  url?: string;
  apiKeyFile?: string;
}

export interface Service {
  url: string;
  apiKey: string;
}

export const SERVICE_HELP = `
The API key is read from --api-key-file or VEILRISK_API_KEY; VEILRISK_URL can stand for --url.`;
export const PASSPHRASE_HELP = `
The passphrase is read from --passphrase-file or VEILRISK_PASSPHRASE, or asked for on the terminal.`;

export function serviceFlags(command: Command): Command {
  return command
    .option('--url <url>', "address of the node's API (default: environment VEILRISK_URL)")
    .option('--api-key-file <file>', 'file with the API key (default: environment VEILRISK_API_KEY)');
}

export function passphraseFlag(command: Command): Command {
  return command.option(
    '--passphrase-file <file>',
    'file whose first line is the passphrase (default: environment VEILRISK_PASSPHRASE, else asked for)',
  );
}

/** @throws RequestError USAGE when the address or the API key is not given; ContractError FILE_UNREADABLE */
export async function serviceOf({ url, apiKeyFile }: ServiceFlags, settings: Settings): Promise<Service> {
  const address = url ?? settings.VEILRISK_URL;
  if (address === undefined) {
    throw new RequestError('USAGE', 'the address of the node is not given', {
      where: '--url',
      fix: 'give --url, such as https://scores.bank.example, or set VEILRISK_URL',
    });
  }
  const apiKey = apiKeyFile === undefined ? settings.VEILRISK_API_KEY : await firstLine(apiKeyFile, '--api-key-file');
  if (apiKey === undefined) {
    throw new RequestError('USAGE', 'the API key is not given', {
      where: '--api-key-file',
      fix: 'give --api-key-file, or set VEILRISK_API_KEY; the operator of the node makes one with `veilrisk apikey create`',
    });
  }
  return { url: address, apiKey };
}

/**
 * @param twice ask again and compare, for a passphrase that is new
 * @throws RequestError USAGE when there is none to be had, or the two differ
 */
export async function passphraseOf(
  { passphraseFile }: { passphraseFile?: string },
  settings: Settings,
  { what, twice }: { what: string; twice: boolean },
): Promise<string> {
  if (passphraseFile !== undefined) return firstLine(passphraseFile, '--passphrase-file');
  if (settings.VEILRISK_PASSPHRASE !== undefined) return settings.VEILRISK_PASSPHRASE;
  if (!process.stdin.isTTY) {
    throw new RequestError('USAGE', `the passphrase of ${what} is not given, and there is no terminal to ask on`, {
      where: '--passphrase-file',
      fix: 'give --passphrase-file, or set VEILRISK_PASSPHRASE',
    });
  }
  const passphrase = await askHidden(`Passphrase of ${what}: `);
  if (passphrase === '') throw refusedPassphrase('the passphrase is empty');
  if (twice && (await askHidden('The same again: ')) !== passphrase) throw refusedPassphrase('the two differ');
  return passphrase;
}

/** A line from the terminal that is not shown. The question goes to standard error: standard output has the result. */
async function askHidden(question: string): Promise<string> {
  process.stderr.write(question);
  const muted = new Writable({ write: (_chunk, _encoding, done) => done() });
  const terminal = createInterface({ input: process.stdin, output: muted, terminal: true });
  const cancelled = new AbortController();
  terminal.once('SIGINT', () => cancelled.abort());
  try {
    return await terminal.question('', { signal: cancelled.signal });
  } catch (cause) {
    throw new RequestError('USAGE', 'the question was cancelled', {
      where: 'terminal',
      fix: 'run the command again, or give --passphrase-file',
      cause,
    });
  } finally {
    terminal.close();
    process.stderr.write('\n');
  }
}

async function firstLine(path: string, option: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new ContractError('FILE_UNREADABLE', `the file of ${option} cannot be read`, {
      where: path,
      fix: 'Check the path and who may read it.',
      cause,
    });
  }
  const line = text.split(/\r?\n/, 1)[0];
  if (line !== '') return line;
  throw new RequestError('USAGE', `the first line of the file of ${option} is empty`, {
    where: path,
    fix: 'write the secret there as a single line',
  });
}

function refusedPassphrase(why: string): RequestError {
  return new RequestError('USAGE', why, { where: 'passphrase', fix: 'run the command again' });
}
