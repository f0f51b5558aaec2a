/**
 * The shape every benchmark reports in: a table for people, and with `--json OUT` an array of
 * `{name, value, unit, bar, ok}` for machines.
 *
 * A bar is an upper or a lower limit; a figure without one is information and always `ok`. A benchmark that misses a
 * bar still prints everything and then ends with exit code 1.
 */
import { writeFileSync } from 'node:fs';
import Table from 'cli-table3';
import { RequestError } from '../../src/errors.ts';

export interface Measurement {
  name: string;
  value: number;
  unit: string;
  bar?: { atMost: number } | { atLeast: number };
}

/** One line of the JSON file. `bar` is the limit itself, in `unit`, whichever direction it has. */
export interface ReportedMeasurement {
  name: string;
  value: number;
  unit: string;
  bar: number | null;
  ok: boolean;
}

export interface BenchmarkReport {
  add(measurement: Measurement): void;
  /** Prints the table, writes the JSON file when asked for, sets the exit code. Returns whether every bar was met. */
  finish(): boolean;
}

/**
 * @param args the benchmark's arguments; only `--json OUT` is read here.
 * @throws RequestError USAGE when `--json` names no file.
 */
export function openReport(title: string, args: readonly string[] = process.argv.slice(2)): BenchmarkReport {
  const jsonFile = readJsonOption(args);
  const lines: (ReportedMeasurement & { direction: '<=' | '>=' | '' })[] = [];
  return {
    add({ name, value, unit, bar }) {
      if (bar === undefined) lines.push({ name, value, unit, bar: null, ok: true, direction: '' });
      else if ('atMost' in bar) {
        lines.push({ name, value, unit, bar: bar.atMost, ok: value <= bar.atMost, direction: '<=' });
      } else lines.push({ name, value, unit, bar: bar.atLeast, ok: value >= bar.atLeast, direction: '>=' });
    },
    finish() {
      const table = new Table({
        head: [title, 'value', 'unit', 'bar', ''],
        colAligns: ['left', 'right', 'left', 'right', 'left'],
        style: { head: [], border: [], compact: true },
      });
      for (const line of lines) {
        const bar = line.bar === null ? '' : `${line.direction} ${figure(line.bar)}`;
        table.push([line.name, figure(line.value), line.unit, bar, line.bar === null ? '' : line.ok ? 'ok' : 'MISSED']);
      }
      process.stdout.write(`${table.toString()}\n`);
      if (jsonFile !== null) {
        const document: ReportedMeasurement[] = lines.map(({ direction: _, ...line }) => line);
        writeFileSync(jsonFile, `${JSON.stringify(document, null, 2)}\n`);
      }
      const ok = lines.every((line) => line.ok);
      if (!ok) process.exitCode = 1;
      return ok;
    },
  };
}

function readJsonOption(args: readonly string[]): string | null {
  const at = args.indexOf('--json');
  if (at === -1) return null;
  const file = args[at + 1];
  if (file === undefined || file.startsWith('--')) {
    throw new RequestError('USAGE', '--json needs the name of the file to write', {
      where: '--json',
      fix: '--json OUT',
    });
  }
  return file;
}

/** Six significant digits, thousands separated; counts stay whole. */
function figure(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e9)) return value.toExponential(3);
  return value.toLocaleString('en-US', { maximumSignificantDigits: 6 });
}
