/** How a failed command answers a person: the code, what was wrong, where, and what to do; never a stack trace. */
import { ClientError, VeilriskError } from '../errors.ts';

const ISSUES_SHOWN = 20;

/** Prints the failure on standard error and sets the exit code: 2 for wrong usage or configuration, else 1. */
export function printFailure(error: unknown): void {
  if (!(error instanceof VeilriskError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`error INTERNAL: an unexpected failure; please report it with these lines\n${text}\n`);
    process.exitCode = 1;
    return;
  }
  // Of a refusal, the service's own code says what happened.
  const said = error instanceof ClientError && error.serviceCode !== undefined ? ` (${error.serviceCode})` : '';
  const lines = [`error ${error.code}${said}: ${error.message}`];
  if (error.where) lines.push(`  where: ${error.where}`);
  // A single issue is often the message already.
  const alone =
    error.issues.length === 1 && error.message.endsWith(`${error.issues[0].field}: ${error.issues[0].rule}`);
  for (const { field, rule } of alone ? [] : error.issues.slice(0, ISSUES_SHOWN)) lines.push(`  - ${field}: ${rule}`);
  if (error.issues.length > ISSUES_SHOWN) lines.push(`  - and ${error.issues.length - ISSUES_SHOWN} more`);
  if (error.fix) lines.push(`  fix: ${error.fix}`);
  process.stderr.write(`${printable(lines.join('\n'))}\n`);
  process.exitCode = error.code === 'USAGE' || error.code === 'CONFIGURATION' ? 2 : 1;
}

/** Names in files and documents of others are shown, never obeyed by the terminal. */
function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, '\ufffd');
}
