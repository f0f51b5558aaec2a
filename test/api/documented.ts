/** Compares replies with the OpenAPI document: an operation may answer with what the document says, and nothing else. */
import { expect } from '@jest/globals';
import { openApiDocument } from '../../src/api/openapi.ts';
import { DEFAULT_LIMITS } from '../../src/operations/context.ts';

interface DocumentedResponse {
  description: string;
  headers?: Record<string, { required?: boolean }>;
  content?: Record<string, unknown>;
}

// Safe: the document is plain JSON; the cast only names the parts that are read.
const paths = openApiDocument(DEFAULT_LIMITS).paths as unknown as Record<
  string,
  Record<string, { responses: Record<string, DocumentedResponse> }>
>;

/** The codes that the description of a response lists. */
export function codesOf({ description }: DocumentedResponse): string[] {
  return [...description.matchAll(/^- `([A-Z_]+)`/gm)].map(([, code]) => code);
}

/** @param operation `method path`, as the document writes them */
export async function expectDocumented(operation: string, response: Response): Promise<void> {
  const [method, path] = operation.split(' ');
  const documented = paths[path]?.[method]?.responses[response.status];
  expect([operation, response.status, documented !== undefined]).toEqual([operation, response.status, true]);
  const required = Object.entries(documented?.headers ?? {}).filter(([, header]) => header.required);
  for (const [name] of required) expect([operation, name, response.headers.has(name)]).toEqual([operation, name, true]);
  const type = response.headers.get('content-type')?.split(';', 1)[0] ?? '';
  expect(Object.keys(documented?.content ?? {})).toContain(type);
  if (type !== 'application/problem+json') return;
  const { code } = await response.clone().json();
  expect(codesOf(documented)).toContain(code);
}
