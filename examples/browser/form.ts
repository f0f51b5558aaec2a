/** The form of one transaction, made from the node's contract: a control, a label and a hint for every field. */
import type { Transaction } from '../../src/client/client.ts';
import type { Contract, InputField } from '../../src/contract/contract.ts';
import type { FieldIssue } from '../../src/errors.ts';
import { cellValue, inputFields } from './csv.ts';
import { element } from './dom.ts';

/** A contract may name hundreds of categories; the control takes all of them. */
const MISSING = 'not known';

export interface TransactionForm {
  read(): Transaction;
  fill(transaction: Transaction): void;
  /** Marks the fields that the SDK refused and moves to the first one; none clears all marks. */
  show(issues: readonly FieldIssue[]): void;
}

export function openForm(contract: Contract, into: HTMLElement): TransactionForm {
  const rows = inputFields(contract).map((field) => ({ field, ...fieldRow(field) }));
  into.replaceChildren(...rows.map(({ row }) => row));
  return {
    read: () =>
      Object.fromEntries(rows.map(({ field, control }) => [field.name, cellValue(contract, field, control.value)])),
    fill(transaction) {
      for (const { field, control } of rows) control.value = String(transaction[field.name] ?? '');
    },
    show(issues) {
      for (const { field, control, problem } of rows) {
        const issue = issues.find((one) => one.field === field.name);
        problem.textContent = issue === undefined ? '' : `This ${issue.rule}.`;
        if (issue === undefined) control.removeAttribute('aria-invalid');
        else control.setAttribute('aria-invalid', 'true');
      }
      rows.find(({ field }) => field.name === issues[0]?.field)?.control.focus();
    },
  };
}

function fieldRow(field: InputField) {
  const id = `field-${field.name}`;
  const hint = element('small', { id: `${id}-hint`, textContent: hintOf(field) });
  const problem = element('small', { id: `${id}-problem`, className: 'problem' });
  const control = field.kind === 'numeric' ? element('input', { inputMode: 'decimal' }) : choices(field);
  control.id = id;
  control.autocomplete = 'off';
  control.setAttribute('aria-describedby', `${hint.id} ${problem.id}`);
  const label = element('label', { htmlFor: id, textContent: field.reason.text });
  return { row: element('div', { className: 'field' }, [label, control, hint, problem]), control, problem };
}

function choices(field: Exclude<InputField, { kind: 'numeric' }>): HTMLSelectElement {
  const values = field.kind === 'boolean' ? ['true', 'false'] : field.categories;
  const text = (value: string) => (field.kind === 'boolean' ? (value === 'true' ? 'yes' : 'no') : value);
  return element('select', {}, [new Option(MISSING, ''), ...values.map((value) => new Option(text(value), value))]);
}

function hintOf(field: InputField): string {
  if (field.kind !== 'numeric') return field.name;
  return `${field.name}, ${field.min.toLocaleString('en')} to ${field.max.toLocaleString('en')}`;
}

/** A made-up transaction within the contract's bounds: it shows the page at work and means nothing. */
export function madeUp(contract: Contract): Transaction {
  const pick = <T>(values: readonly T[]): T => values[Math.floor(Math.random() * values.length)];
  const value = (field: InputField) => {
    if (field.kind === 'boolean') return Math.random() < 0.3;
    if (field.kind === 'categorical') return pick(field.categories);
    const { min, max } = field;
    if (field.scale !== 'log1p') return Math.round(min + (max - min) * Math.random());
    // Evenly spread over the orders of magnitude, as the contract's bins are.
    const most = Math.log1p(max - min);
    return Math.round(100 * (min + Math.expm1(most * Math.random()))) / 100;
  };
  return Object.fromEntries(inputFields(contract).map((field) => [field.name, value(field)]));
}
