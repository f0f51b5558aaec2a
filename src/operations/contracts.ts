/**
 * Contract files: read, checked, described. The meaning of a contract is in the contract room; this file knows paths.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { binTitle, type Contract, contractHash, layoutOf, parseContract } from '../contract/contract.ts';
import { contractJsonSchema } from '../contract/schema.ts';
import { ContractError, VeilriskError } from '../errors.ts';

export { contractJsonSchema };

const PUBLISHED = join(import.meta.dirname, '..', '..', 'contracts');

export interface ContractFile {
  contract: Contract;
  hash: string;
  path: string;
}

/** Names of the contracts published with this software, e.g. `adult`. */
export async function publishedContracts(): Promise<string[]> {
  const files = await readdir(PUBLISHED);
  return files
    .filter((file) => file.endsWith('.json') && !file.endsWith('.schema.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .sort();
}

/**
 * Reads a contract by path, or by the name of a published one.
 *
 * Fails with FILE_UNREADABLE, or CONTRACT_INVALID when it is no JSON or breaks a rule.
 */
export async function readContract(pathOrName: string): Promise<ContractFile> {
  const published = /^[a-z][a-z0-9-]*$/.test(pathOrName) && (await publishedContracts()).includes(pathOrName);
  const path = published ? join(PUBLISHED, `${pathOrName}.json`) : pathOrName;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(await readFile(path));
  } catch (cause) {
    throw new ContractError('FILE_UNREADABLE', 'The contract cannot be read', {
      where: pathOrName,
      fix: `Give the path of a contract, or one of: ${(await publishedContracts()).join(', ')}.`,
      cause,
    });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    // The parser's message would quote the document.
    throw new ContractError('CONTRACT_INVALID', 'The contract is not JSON', {
      where: path,
      fix: 'Correct the JSON syntax; src/contract/FORMAT.md has an example.',
      cause,
    });
  }
  try {
    const contract = parseContract(json);
    return { contract, hash: contractHash(contract), path };
  } catch (error) {
    if (!(error instanceof VeilriskError)) throw error;
    throw new ContractError('CONTRACT_INVALID', error.message, {
      where: path,
      fix: 'Correct the contract document; src/contract/FORMAT.md describes every field.',
      issues: error.issues,
      cause: error,
    });
  }
}

export interface FieldDescription {
  name: string;
  kind: string;
  bins: number;
  /** First and last few bin names. */
  outline: string;
  code: string;
}

/** One line per field for people. */
export function describeFields(contract: Contract): FieldDescription[] {
  const { sizes } = layoutOf(contract);
  return contract.fields.map((field, k) => {
    const titles = Array.from({ length: sizes[k] }, (_, bin) => binTitle(contract, field, bin));
    const outline =
      titles.length <= 6
        ? titles.join(' | ')
        : `${titles.slice(0, 3).join(' | ')} | ... | ${titles.slice(-2).join(' | ')}`;
    return { name: field.name, kind: field.kind, bins: sizes[k], outline, code: field.reason.code };
  });
}
