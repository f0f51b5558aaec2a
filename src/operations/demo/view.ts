/** What the demo shows: numbered steps, one line of live progress, and the closing table. */
import Table from 'cli-table3';
import type { DemoResult } from './run.ts';

export interface DemoView {
  step(title: string): void;
  /** A finished fact below the step. */
  note(text: string): void;
  /** Replaces the progress line; does nothing when the output is not a terminal. */
  progress(text: string): void;
  table(result: DemoResult): void;
  text(lines: readonly string[]): void;
}

const BAR_WIDTH = 24;
const INDENT = ' '.repeat(12);
const TEXT_WIDTH = 100;

export function openDemoView(out: NodeJS.WriteStream): DemoView {
  const started = performance.now();
  let steps = 0;
  let progressShown = false;

  const line = (text: string) => {
    if (progressShown) out.write('\r\x1b[K');
    progressShown = false;
    out.write(`${text}\n`);
  };
  const seconds = () => `${((performance.now() - started) / 1000).toFixed(1)} s`.padStart(7);

  return {
    step: (title) => line(`${seconds()}  ${++steps}. ${title}`),
    note: (text) => {
      for (const each of wrap(text)) line(`${INDENT}${each}`);
    },
    progress(text) {
      if (!out.isTTY) return;
      out.write(`\r\x1b[K${INDENT}${text}`);
      progressShown = true;
    },
    text: (lines) => {
      for (const each of lines) line(each);
    },
    table(result) {
      const table = new Table({ colWidths: [50, 40], wordWrap: true, style: { head: [], border: [], compact: true } });
      const row = (name: string, value: string) => table.push([name, value]);
      for (const bank of result.banks) row(`AUC ${bank.name} alone (same epsilon)`, bank.aucAlone.toFixed(4));
      row('AUC federated', result.aucFederated.toFixed(4));
      row('AUC pooled, without privacy', result.aucPooledNonPrivate.toFixed(4));
      // Up: a printed loss is never below the one that was incurred.
      const loss = (epsilon: number) =>
        `epsilon ${(Math.ceil(epsilon * 1e3) / 1e3).toFixed(3)} at delta ${result.delta}`;
      row("a customer's loss against aggregator and banks", loss(result.losses.aggregator));
      row("a customer's loss against readers of the model", loss(result.losses.readers));
      row('latency of a score, p50', `${result.latencyMs.scoreP50.toFixed(1)} ms`);
      row(
        'latency of an encrypted score, p50',
        `${result.latencyMs.scoreEncryptedRowP50.toFixed(1)} ms (row, with encryption and decryption)`,
      );
      row('worst encrypted logit error, row', result.encrypted.rowMaxLogitError.toExponential(1));
      row('worst encrypted logit error, column', result.encrypted.columnMaxLogitError.toExponential(1));
      row(
        'encrypted scores a second, streamed',
        `${Math.round(result.encrypted.streamedPerSecond)} (${result.encrypted.streamed} in a stream)`,
      );
      row('audit entries verified offline', `${result.audit.verified} of ${result.audit.entries}`);
      row('seconds', result.seconds.toFixed(1));
      line(table.toString());
    },
  };
}

/** Lines of at most TEXT_WIDTH characters; what follows the first is set in. */
function wrap(text: string): string[] {
  const lines: string[] = [];
  let current = '';
  for (const word of text.split(' ')) {
    if (current !== '' && current.length + 1 + word.length > TEXT_WIDTH) {
      lines.push(current);
      current = `  ${word}`;
    } else current = current === '' ? word : `${current} ${word}`;
  }
  return [...lines, current];
}

/** A bar and `3/20`. */
export function bar(done: number, of: number): string {
  const full = Math.round((BAR_WIDTH * done) / Math.max(1, of));
  return `${'█'.repeat(full)}${'░'.repeat(BAR_WIDTH - full)} ${done}/${of}`;
}
