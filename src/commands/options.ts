/** Parsers of option values that several verbs share. */
import { InvalidArgumentError } from 'commander';

/** A finite number; commander reports anything else with the name of the option. */
export function numberOption(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It must be a number.');
  return value;
}

/** A whole number of at least 0. */
export function integerOption(text: string): number {
  const value = numberOption(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError('It must be a whole number of at least 0.');
  return value;
}
