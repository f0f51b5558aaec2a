/** Structured logs on standard error, one JSON object a line. Customer values and secrets never enter a log. */
import pino from 'pino';

export type Log = pino.Logger;

export function openLog(name: string, level: pino.LevelWithSilent = 'info'): Log {
  return pino(
    { name, level, base: { name, pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}
