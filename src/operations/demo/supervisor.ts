/**
 * Runs the parts of a consortium as operating-system processes of their own: starts them, reads the events they print
 * (one JSON object a line on standard output), keeps their logs in files, and ends every one of them, the embedded
 * database servers included, whatever happens.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { RequestError } from '../../errors.ts';

const MAIN = resolve(import.meta.dirname, '../../main.ts');
const STOP_GRACE_MS = 10_000;
const LOG_LINES_SHOWN = 15;

/** What a part tells about itself: `event` names the kind, the rest belongs to it. */
export interface PartEvent {
  event: string;
  [key: string]: unknown;
}

export interface Part {
  readonly name: string;
  readonly pid: number;
  readonly logFile: string;
  /** Every event so far, in order. */
  readonly events: readonly PartEvent[];
  /** Resolves with the first event, past or future, that fits; rejects when the part ends or the time is over. */
  waitFor(fits: (event: PartEvent) => boolean, timeoutMs: number): Promise<PartEvent>;
  onEvent(listener: (event: PartEvent) => void): void;
  /** Sends a signal; SIGKILL is the crash of the tests. */
  kill(signal: NodeJS.Signals): void;
  /** Exit code, or null after a signal. */
  readonly ended: Promise<number | null>;
}

export interface Supervisor {
  /** Starts `veilrisk ARGS` and leaves it running. An end that was not asked for is reported to `onFailure`. */
  start(name: string, args: readonly string[]): Part;
  /** Runs `veilrisk ARGS` to its end and returns what it printed; its failure carries the last lines of its log. */
  run(name: string, args: readonly string[]): Promise<string>;
  /** The data directory of an embedded database that has to be gone after `stopAll`. */
  watchDatabase(postgresDir: string): void;
  stopAll(): Promise<void>;
}

export function openSupervisor(logDir: string, onFailure: (error: RequestError) => void): Supervisor {
  const running = new Set<Part>();
  /** Commands on their way to their end; a stop ends them as well, or they would go on without us. */
  const commands = new Set<ChildProcess>();
  const databases = new Set<string>();
  let stopping = false;

  function launch(name: string, args: readonly string[]): { child: ChildProcess; logFile: string } {
    const logFile = join(logDir, `${name}.log`);
    const log = createWriteStream(logFile, { flags: 'a' });
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stderr?.pipe(log);
    return { child, logFile };
  }

  function start(name: string, args: readonly string[]): Part {
    if (stopping) throw failure(name, 'was not started: everything is being stopped', join(logDir, `${name}.log`));
    const { child, logFile } = launch(name, args);
    const events: PartEvent[] = [];
    const listeners = new Set<(event: PartEvent) => void>();
    let asked = false;
    const ended = new Promise<number | null>((done) => child.once('close', (code) => done(code)));
    if (child.stdout) {
      createInterface({ input: child.stdout }).on('line', (line) => {
        const event = parseEvent(line);
        if (!event) return;
        events.push(event);
        for (const listener of listeners) listener(event);
      });
    }
    const part: Part = {
      name,
      pid: child.pid ?? -1,
      logFile,
      events,
      ended,
      onEvent: (listener) => void listeners.add(listener),
      kill(signal) {
        asked = true;
        child.kill(signal);
      },
      waitFor(fits, timeoutMs) {
        const past = events.find(fits);
        if (past) return Promise.resolve(past);
        return new Promise((done, fail) => {
          const settle = (action: () => void) => {
            clearTimeout(timer);
            listeners.delete(listener);
            action();
          };
          const listener = (event: PartEvent) => {
            if (fits(event)) settle(() => done(event));
          };
          const timer = setTimeout(
            () => settle(() => fail(failure(name, `did not answer within ${timeoutMs / 1000} s`, logFile))),
            timeoutMs,
          );
          listeners.add(listener);
          void ended.then((code) => settle(() => fail(failure(name, `ended with ${code ?? 'a signal'}`, logFile))));
        });
      },
    };
    running.add(part);
    void ended.then((code) => {
      running.delete(part);
      if (!asked && !stopping) onFailure(failure(name, `ended by itself with ${code ?? 'a signal'}`, logFile));
    });
    return part;
  }

  async function run(name: string, args: readonly string[]): Promise<string> {
    if (stopping) throw failure(name, 'was not started: everything is being stopped', join(logDir, `${name}.log`));
    const { child, logFile } = launch(name, args);
    commands.add(child);
    child.once('close', () => commands.delete(child));
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const code = await new Promise<number | null>((done) => child.once('close', done));
    if (code !== 0) throw failure(`${name}: veilrisk ${args[0]} ${args[1] ?? ''}`, `ended with ${code}`, logFile);
    return output;
  }

  async function stopAll(): Promise<void> {
    stopping = true;
    const parts = [...running];
    for (const part of parts) part.kill('SIGTERM');
    // A command keeps nothing to finish: its transaction is undone by its end.
    const ended = [...commands].map((child) => new Promise((done) => child.once('close', done)));
    for (const child of commands) child.kill('SIGKILL');
    const timer = setTimeout(() => {
      for (const part of running) part.kill('SIGKILL');
    }, STOP_GRACE_MS);
    await Promise.all([...parts.map((part) => part.ended), ...ended]);
    clearTimeout(timer);
    for (const dir of databases) await endDatabase(dir);
  }

  return { start, run, stopAll, watchDatabase: (dir) => void databases.add(dir) };
}

function parseEvent(line: string): PartEvent | null {
  try {
    const value: unknown = JSON.parse(line);
    // Safe: the parts are this program, and print no other objects with that member.
    return typeof value === 'object' && value !== null && 'event' in value ? (value as PartEvent) : null;
  } catch {
    return null;
  }
}

function failure(name: string, what: string, logFile: string): RequestError {
  const lines = existsSync(logFile) ? readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-LOG_LINES_SHOWN) : [];
  return new RequestError(
    'INTERNAL',
    `${name} ${what}${lines.length ? `; its last words:\n  ${lines.join('\n  ')}` : ''}`,
    {
      where: logFile,
    },
  );
}

/** Ends a database server whose owner was killed and could not stop it. Its first line is the postmaster's pid. */
async function endDatabase(postgresDir: string): Promise<void> {
  const pidFile = join(postgresDir, 'postmaster.pid');
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
  if (!Number.isInteger(pid) || pid <= 1) return;
  for (const signal of ['SIGINT', 'SIGQUIT'] as const) {
    if (!tryKill(pid, signal)) return;
    for (let waited = 0; waited < 3000; waited += 50) {
      await new Promise((done) => setTimeout(done, 50));
      if (!tryKill(pid, 0)) return;
    }
  }
}

function tryKill(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
