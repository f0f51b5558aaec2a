/**
 * A service's refusal as a typed error.
 *
 * Source: RFC 9457. Texts of the service are shortened and lose control characters, whoever prints them; its code is
 * otherwise kept as it came, for callers to match on.
 */
import { ClientError } from '../errors.ts';

/** A problem document is short; whatever is longer is not one. */
const LONGEST_TEXT = 500;
/** What moves a terminal's cursor, ends a log's line or turns the direction of text: the service's word is shown as text. */
const CONTROLS = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

export function malformed(path: string, cause?: unknown): ClientError {
  return new ClientError('REPLY_MALFORMED', 'the answer is not one of the veilrisk API', {
    where: path,
    fix: 'Check that the address is that of a node and of this version.',
    cause,
  });
}

/** @param answer body of the refusal: a problem document, or anything a proxy may have written */
export function refusal(path: string, status: number, answer: Uint8Array): ClientError {
  const problem = membersOf(answer);
  const code = textOf(problem.code);
  const detail = textOf(problem.detail) ?? textOf(problem.title) ?? `HTTP status ${status}`;
  const fix = textOf(problem.fix);
  return new ClientError('SERVICE_REFUSED', detail, {
    where: textOf(problem.where) ?? path,
    status,
    ...(code === undefined ? {} : { serviceCode: code }),
    ...(fix === undefined ? {} : { fix }),
    issues: issuesOf(problem.issues),
  });
}

function membersOf(answer: Uint8Array): Record<string, unknown> {
  try {
    const document: unknown = JSON.parse(new TextDecoder().decode(answer));
    // Safe: an object may be asked for any member.
    if (typeof document === 'object' && document !== null) return document as Record<string, unknown>;
  } catch {
    // Not JSON: a proxy's page, of which only the status is of use.
  }
  return {};
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value.slice(0, LONGEST_TEXT).replace(CONTROLS, ' ') : undefined;
}

function issuesOf(issues: unknown): { field: string; rule: string }[] {
  if (!Array.isArray(issues)) return [];
  return issues.flatMap((issue: unknown) => {
    if (typeof issue !== 'object' || issue === null) return [];
    // Safe: an object may be asked for any member.
    const { field, rule } = issue as Record<string, unknown>;
    const texts = [textOf(field), textOf(rule)] as const;
    return texts[0] === undefined || texts[1] === undefined ? [] : [{ field: texts[0], rule: texts[1] }];
  });
}
