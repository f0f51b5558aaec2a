/**
 * HTTP to a node, for Node and browser: `fetch`, one time limit, problem details as typed errors.
 *
 * Source: RFC 9457 for refusals. Limit: no retries; whoever calls knows what may be sent twice.
 */
import { ClientError } from '../errors.ts';

export interface ServiceOptions {
  /** Base address of the node's API, such as `https://scores.bank.example`. */
  readonly url: string;
  readonly apiKey: string;
  /** Longest time for one request and its answer; 30,000 when left out. */
  readonly timeoutMs?: number;
}

export interface Service {
  /** The parsed JSON of a 2xx answer. */
  getJson(path: string): Promise<unknown>;
  postJson(path: string, body: unknown, headers?: Readonly<Record<string, string>>): Promise<unknown>;
  postBytes(path: string, mediaType: string, body: Uint8Array, answer: 'json'): Promise<unknown>;
  postBytes(path: string, mediaType: string, body: Uint8Array, answer: 'bytes'): Promise<Uint8Array>;
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** A problem document is short; whatever is longer is not one. */
const LONGEST_TEXT = 500;

/** @throws ClientError of every method: SERVICE_UNREACHABLE, SERVICE_REFUSED (with the service's code), REPLY_MALFORMED */
export function openService({ url, apiKey, timeoutMs = DEFAULT_TIMEOUT_MS }: ServiceOptions): Service {
  const base = url.replace(/\/+$/, '');

  async function send(path: string, init: RequestInit): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(`${base}${path}`, {
        ...init,
        // Safe: the two callers below give plain objects.
        headers: { ...(init.headers as Record<string, string>), authorization: `Bearer ${apiKey}` },
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
      });
    } catch (cause) {
      throw new ClientError('SERVICE_UNREACHABLE', 'the service does not answer', {
        where: path,
        fix: 'Check the address and that the node is up (GET /healthz).',
        cause,
      });
    }
    if (!response.ok) throw await refusal(path, response);
    return response;
  }

  async function json(path: string, response: Response): Promise<unknown> {
    try {
      return await response.json();
    } catch (cause) {
      throw malformed(path, cause);
    }
  }

  async function postBytes(
    path: string,
    mediaType: string,
    body: Uint8Array,
    answer: 'json' | 'bytes',
  ): Promise<unknown> {
    // Safe: the bytes come from this SDK and are never in shared memory.
    const payload = body as Uint8Array<ArrayBuffer>;
    const response = await send(path, { method: 'POST', headers: { 'content-type': mediaType }, body: payload });
    if (answer === 'json') return json(path, response);
    try {
      return new Uint8Array(await response.arrayBuffer());
    } catch (cause) {
      throw malformed(path, cause);
    }
  }

  return {
    async getJson(path) {
      return json(path, await send(path, { method: 'GET' }));
    },
    async postJson(path, body, headers = {}) {
      const init = {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      };
      return json(path, await send(path, init));
    },
    // Safe: the overloads of the interface pair each answer with its type.
    postBytes: postBytes as Service['postBytes'],
  };
}

export function malformed(path: string, cause?: unknown): ClientError {
  return new ClientError('REPLY_MALFORMED', 'the answer is not one of the veilrisk API', {
    where: path,
    fix: 'Check that the address is that of a node and of this version.',
    cause,
  });
}

/** A refusal as the service explained it; its texts are shortened, its code is kept as it came. */
async function refusal(path: string, response: Response): Promise<ClientError> {
  const problem: unknown = await response.json().catch(() => null);
  const code = textOf(problem, 'code');
  const detail = textOf(problem, 'detail') ?? textOf(problem, 'title') ?? `HTTP status ${response.status}`;
  const fix = textOf(problem, 'fix');
  return new ClientError('SERVICE_REFUSED', detail, {
    where: textOf(problem, 'where') ?? path,
    status: response.status,
    ...(code === undefined ? {} : { serviceCode: code }),
    ...(fix === undefined ? {} : { fix }),
    issues: issuesOf(problem),
  });
}

function textOf(problem: unknown, member: string): string | undefined {
  if (typeof problem !== 'object' || problem === null) return undefined;
  // Safe: an object may be asked for any member.
  const value = (problem as Record<string, unknown>)[member];
  return typeof value === 'string' ? value.slice(0, LONGEST_TEXT) : undefined;
}

function issuesOf(problem: unknown): { field: string; rule: string }[] {
  if (typeof problem !== 'object' || problem === null) return [];
  // Safe: an object may be asked for any member.
  const issues = (problem as Record<string, unknown>).issues;
  if (!Array.isArray(issues)) return [];
  return issues.flatMap((issue: unknown) => {
    const [field, rule] = [textOf(issue, 'field'), textOf(issue, 'rule')];
    return field === undefined || rule === undefined ? [] : [{ field, rule }];
  });
}
