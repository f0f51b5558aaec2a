import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { applyMigrations, NO_FILTER } from '../../src/database/migrations.ts';
import { withSchemaEngine } from '../../src/database/schemaEngine.ts';
import { usePostgres } from '../support/postgres.ts';

const root = join(import.meta.dirname, '../..');
const postgres = usePostgres();

describe.each([
  { name: 'node', client: 'src/store/generated' },
  { name: 'aggregator', client: 'federated/aggregator/store/generated' },
])('schema of the $name', ({ name, client }) => {
  const schemaPath = join(root, `prisma/${name}.prisma`);

  test('the committed migrations lead to exactly the committed schema', async () => {
    const url = await postgres.freshDatabase();
    await applyMigrations(url, join(root, 'prisma/migrations', name));
    const content = await readFile(schemaPath, 'utf8');
    const difference = await withSchemaEngine(url, (engine) =>
      engine.diff({
        from: { tag: 'schemaDatasource', files: [{ path: schemaPath, content }], configDir: root },
        to: { tag: 'schemaDatamodel', files: [{ path: schemaPath, content }] },
        script: true,
        exitCode: true,
        filters: NO_FILTER,
      }),
    );
    expect(difference.stdout).toContain('empty migration');
    expect(difference.exitCode).toBe(0);
  });

  test('the generated client was made from the committed schema', async () => {
    const generated = await readFile(join(root, client, 'internal/class.ts'), 'utf8');
    const inline = /"inlineSchema":\s*("(?:[^"\\]|\\.)*")/.exec(generated);
    expect(inline).not.toBeNull();
    expect(JSON.parse(inline![1])).toBe(await readFile(schemaPath, 'utf8'));
  });
});
