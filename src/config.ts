/**
 * What a process is told from outside, parsed once. This is the only file that reads `process.env`; a value that does
 * not fit stops the process instead of being guessed. Command-line flags win over the environment.
 */
import { z } from 'zod';
import { RequestError } from './errors.ts';

const port = z.coerce.number().int().min(0).max(65_535);

const settings = z.object({
  /** Where a node keeps its keys and its embedded database. */
  VEILRISK_DATA_DIR: z.string().min(1).default('.veilrisk/node'),
  /** PostgreSQL to use instead of the embedded one; a secret: it holds a password. */
  DATABASE_URL: z.string().min(1).optional(),
  /** As DATABASE_URL, for the aggregator. */
  VEILRISK_AGGREGATOR_DATABASE_URL: z.string().min(1).optional(),
  VEILRISK_HOST: z.string().min(1).default('127.0.0.1'),
  VEILRISK_PORT: port.default(8080),
  VEILRISK_ROSTER: z.string().min(1).optional(),
  VEILRISK_AGGREGATOR_URL: z.url().optional(),
  /** Distinct vectors one caller may have scored under one model version, unless a limit is set for that caller. */
  VEILRISK_VECTOR_LIMIT: z.coerce.number().int().min(1).max(1e12).default(1_000_000),
  /** Days a registered encryption key is usable at most. */
  VEILRISK_KEY_DAYS: z.coerce.number().int().min(1).max(3_650).default(365),
  /** Comma-separated origins whose pages may call the API from a browser; none by default. */
  VEILRISK_CORS_ORIGINS: z
    .string()
    .default('')
    .transform((list) => list.split(',').map((origin) => origin.trim()))
    .transform((list) => list.filter((origin) => origin !== ''))
    .refine(
      (list) => list.every((origin) => URL.parse(origin)?.origin === origin),
      'must be origins like https://host',
    ),
  /** A caller's side: base address of the node's API, the API key and the passphrase of the secret-key file; the last two are secrets. */
  VEILRISK_URL: z.url().optional(),
  VEILRISK_API_KEY: z.string().min(1).optional(),
  VEILRISK_PASSPHRASE: z.string().min(1).optional(),
  VEILRISK_ENCRYPTION_THREADS: z.coerce.number().int().min(1).max(64).default(1),
  VEILRISK_LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
});

export type Settings = z.infer<typeof settings>;

/** @throws RequestError CONFIGURATION naming each variable that does not fit, never its value. */
export function readSettings(environment: Readonly<Record<string, string | undefined>> = process.env): Settings {
  const present = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''));
  const parsed = settings.safeParse(present);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => ({ field: issue.path.join('.'), rule: issue.message }));
  throw new RequestError('CONFIGURATION', `the environment does not fit: ${issues.map((i) => i.field).join(', ')}`, {
    issues,
    fix: 'correct or unset the variables named',
  });
}
