/** How figures, long sentences and tables are printed for people: at most 100 columns, losses never flattered. */
import Table from 'cli-table3';

const COLUMNS = 100;

/** A loss that was incurred or is planned: four decimals, rounded up. */
export const lossUp = (epsilon: number): string => (Math.ceil(epsilon * 1e4) / 1e4).toFixed(4);

/** A loss that may still be incurred: four decimals, rounded down. */
export const lossDown = (epsilon: number): string => (Math.floor(epsilon * 1e4) / 1e4).toFixed(4);

/** Six significant digits. */
export const figure = (value: number): string => String(Number(value.toPrecision(6)));

/** A rational as `numerator/denominator`, as a number. */
export function figureOf(rational: string): number {
  const [num, den] = rational.split('/');
  return Number(num) / Number(den);
}

/** A sentence after a label, broken between words; later lines are indented to where the sentence begins. */
export function wrapped(label: string, sentence: string): string {
  const lines: string[] = [];
  let line = label;
  let empty = true;
  for (const word of sentence.split(' ')) {
    if (!empty && line.length + 1 + word.length > COLUMNS) {
      lines.push(line);
      line = ' '.repeat(label.length);
      empty = true;
    }
    line += empty ? word : ` ${word}`;
    empty = false;
  }
  return [...lines, line].join('\n');
}

/** A table without colours. @param left how many of the first columns are text; the others are figures. */
export function plainTable(head: string[], left = 1): Table.Table {
  return new Table({
    head,
    colAligns: head.map((_, i) => (i < left ? 'left' : 'right')),
    style: { head: [], border: [], compact: true },
  });
}
