/**
 * Prisma's schema engine as WebAssembly, loaded in process: no engine binary, no download, works air-gapped.
 *
 * Source: @prisma/schema-engine-wasm. Its entry point imports the .wasm file as a module, which not every loader can
 * do; the glue module and the bytes are bound by hand here, as wasm-bindgen's generated entry does.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { PrismaPg } from '@prisma/adapter-pg';
import { bindMigrationAwareSqlAdapterFactory, ColumnTypeEnum, type SqlQuery } from '@prisma/driver-adapter-utils';
import type { SchemaEngine } from '@prisma/schema-engine-wasm';
import pg from 'pg';

// PostgreSQL's internal type "char" (one byte, used by the catalogue), and bpchar, which the adapter reads as text.
const CHAR_OID = 18;
const BPCHAR_OID = 1042;

/**
 * Prisma's adapter with two gaps closed that the schema engine falls into.
 *
 * It splits a script at every semicolon, also inside a function body: PostgreSQL takes the whole script in one simple
 * query, which makes each migration one transaction besides. And it does not know the catalogue's type "char", which
 * the engine reads when it describes a database.
 */
class EngineAdapter extends PrismaPg {
  override async connect() {
    const adapter = await super.connect();
    adapter.executeScript = async (script) => {
      await adapter.underlyingDriver().query(script);
    };
    // biome-ignore lint/complexity/useLiteralKeys: a private member, which TypeScript lets brackets alone reach.
    const performIO = adapter['performIO'].bind(adapter);
    const queryRaw = adapter.queryRaw.bind(adapter);
    const charColumns = new Map<string, number[]>();
    // biome-ignore lint/complexity/useLiteralKeys: a private member, which TypeScript lets brackets alone reach.
    adapter['performIO'] = async (query: SqlQuery) => {
      const result: pg.QueryArrayResult = await performIO(query);
      const found = result.fields.flatMap((field, at) => (field.dataTypeID === CHAR_OID ? [at] : []));
      for (const at of found) result.fields[at].dataTypeID = BPCHAR_OID;
      charColumns.set(query.sql, found);
      return result;
    };
    adapter.queryRaw = async (query) => {
      const result = await queryRaw(query);
      for (const at of charColumns.get(query.sql) ?? []) result.columnTypes[at] = ColumnTypeEnum.Character;
      return result;
    };
    return adapter;
  }
}

interface Glue {
  SchemaEngine: typeof SchemaEngine;
  __wbg_set_wasm(exports: WebAssembly.Exports): void;
}

let glue: Promise<Glue> | undefined;

async function loadGlue(): Promise<Glue> {
  const name = '@prisma/schema-engine-wasm/schema_engine_bg';
  const path = createRequire(import.meta.url).resolve(name);
  const module: Glue & WebAssembly.ModuleImports = await import(name);
  const bytes = await readFile(join(dirname(path), 'schema_engine_bg.wasm'));
  // The engine leaves a timer of ten seconds behind each migration, which would keep an ended command alive.
  const timer = Object.keys(module).find((name) => name.startsWith('__wbg_setTimeout_'));
  const imports = { ...module, ...(timer !== undefined && { [timer]: unrefTimeout }) };
  const { instance } = await WebAssembly.instantiate(bytes, { './schema_engine_bg.js': imports });
  module.__wbg_set_wasm(instance.exports);
  // Safe: wasm-bindgen always exports its start function under this name.
  (instance.exports.__wbindgen_start as () => void)();
  return module;
}

const unrefTimeout = (callback: () => void, ms: number) => setTimeout(callback, ms >>> 0).unref();

/** Runs `use` with an engine connected to `url`; the engine and its connections are released afterwards. */
export async function withSchemaEngine<T>(url: string, use: (engine: SchemaEngine) => Promise<T>): Promise<T> {
  glue ??= loadGlue();
  const { SchemaEngine } = await glue;
  // The engine does not close the connections of its adapter: the pool is ours, so that it ends with the call.
  const pool = new pg.Pool({ connectionString: url, max: 2 });
  pool.on('error', () => {});
  const factory = bindMigrationAwareSqlAdapterFactory(new EngineAdapter(pool));
  const engine = await SchemaEngine.new({ datamodels: undefined }, () => {}, factory);
  try {
    return await use(engine);
  } finally {
    engine.free();
    await pool.end();
  }
}
