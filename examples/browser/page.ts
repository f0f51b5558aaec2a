/**
 * The page: reads its forms, asks the worker, shows what comes back. Nothing secret is computed or kept here but what
 * the user types.
 */
import type { EncryptedScore, ServedModel, StreamedScore } from '../../src/client/client.ts';
import { byId, element, kilobytes, milliseconds } from './dom.ts';
import { madeUp, openForm, type TransactionForm } from './form.ts';
import { showFrame } from './frame.ts';
import type { Calls, Failure, FromWorker, RegisteredKey } from './messages.ts';

type Part = Extract<FromWorker, { scored: unknown }>;

/** Rows of a file that are listed; the download has all. */
const LISTED_ROWS = 200;
const MADE_UP_ROWS = 2000;

const node = document.querySelector<HTMLMetaElement>('meta[name="veilrisk-node"]')?.content ?? '';
const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
const waiting = new Map<
  number,
  { done(output: never): void; fail(failure: Failure): void; part?: (part: Part) => void }
>();
let calls = 0;
let model: ServedModel | undefined;
let form: TransactionForm | undefined;

worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
  const call = waiting.get(data.id);
  if ('scored' in data) return call?.part?.(data);
  waiting.delete(data.id);
  // Safe: the worker answers a call with its own output.
  if ('output' in data) call?.done(data.output as never);
  else call?.fail(data.failure);
};

function ask<Name extends keyof Calls>(
  name: Name,
  input: Calls[Name]['input'],
  part?: (part: Part) => void,
): Promise<Calls[Name]['output']> {
  const id = ++calls;
  return new Promise((done, fail) => {
    waiting.set(id, { done, fail, ...(part === undefined ? {} : { part }) });
    worker.postMessage({ id, name, input });
  });
}

function say(where: string, text: string, kind: '' | 'good' | 'bad' = ''): void {
  const status = byId(where);
  status.textContent = text;
  status.className = `status ${kind}`;
}

function sayFailure(where: string, { message, fix, code = 'PAGE' }: Failure): void {
  const sentence = /[.!?]$/.test(message) ? message : `${message}.`;
  say(where, [sentence, fix, `(${code})`].filter(Boolean).join(' '), 'bad');
}

/** Runs a step once at a time: its form's buttons are off meanwhile, and what goes wrong is said under it. */
function onSubmit(id: string, status: string, step: () => Promise<void>): void {
  const target = byId<HTMLFormElement>(id);
  target.addEventListener('submit', async (event) => {
    event.preventDefault();
    const buttons = [...target.querySelectorAll<HTMLButtonElement>('button:not(#cancel)')];
    for (const button of buttons) button.disabled = true;
    try {
      await step();
    } catch (error) {
      // Safe: what the worker throws is a Failure; an error of this page has a message too.
      sayFailure(status, error as Failure);
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  });
}

byId('node').textContent = node;

onSubmit('connect', 'connect-status', async () => {
  say('connect-status', 'Asking for the model and its contract…');
  for (const part of ['key-part', 'one-part', 'table-part']) byId(part).inert = true;
  const apiKey = byId<HTMLInputElement>('api-key').value;
  try {
    model = await ask('connect', { url: node, apiKey });
  } catch (error) {
    const failure = error as Failure;
    if (failure.code !== 'SERVICE_UNREACHABLE') throw failure;
    // A browser does not tell a page apart a node that is down and one that does not list the page's origin.
    throw { ...failure, fix: `Is the node up, and does its VEILRISK_CORS_ORIGINS list ${location.origin}?` };
  }
  const { contract, encryption, hash } = model;
  const facts = [
    ['Contract', `${contract.title}, version ${contract.version}`],
    ['Fields', `${contract.fields.length}, as ${encryption?.dimension ?? 0} dimensions`],
    ['Model', `${hash.slice(0, 16)}…`],
  ];
  byId('model').replaceChildren(
    ...facts.map(([name, value]) =>
      element('div', {}, [element('dt', { textContent: name }), element('dd', { textContent: value })]),
    ),
  );
  byId('model').hidden = false;
  form = openForm(contract, byId('fields'));
  form.fill(madeUp(contract));
  byId('key-part').inert = false;
  say('connect-status', 'Connected.', 'good');
});

onSubmit('new-key', 'key-status', async () => {
  say('key-status', 'Making a key and encrypting its file…');
  byId('key-download').hidden = true;
  const field = byId<HTMLInputElement>('new-passphrase');
  const made = await ask('createKey', { passphrase: field.value });
  field.value = '';
  const name = `veilrisk-${made.reply.keyId.slice(0, 8)}.key`;
  offer('download', name, new Blob([made.file], { type: 'application/octet-stream' }));
  byId('key-download').hidden = false;
  showKey(made, 'made');
});

onSubmit('open-key', 'key-status', async () => {
  say('key-status', 'Opening the key file…');
  const [file] = byId<HTMLInputElement>('key-file').files ?? [];
  const field = byId<HTMLInputElement>('passphrase');
  const opened = await ask('openKey', { file: await file.bytes(), passphrase: field.value });
  field.value = '';
  byId('key-download').hidden = true;
  showKey(opened, 'opened');
});

function showKey({ reply, keyMs, registerMs }: RegisteredKey, how: string): void {
  const { keyId, expiresAt } = reply;
  const until =
    expiresAt === null ? '' : ` until ${new Date(expiresAt).toLocaleDateString('en', { dateStyle: 'long' })}`;
  const times = `${how} in ${milliseconds(keyMs)}, registered in ${milliseconds(registerMs)}`;
  say('key-status', `Key ${keyId.slice(0, 16)}… ${times}, usable${until}.`, 'good');
  byId('one-part').inert = false;
  byId('table-part').inert = false;
}

byId('made-up').addEventListener('click', () => {
  if (model !== undefined) form?.fill(madeUp(model.contract));
  form?.show([]);
});

onSubmit('transaction', 'one-status', async () => {
  if (form === undefined) return;
  say('one-status', 'Encrypting…');
  byId('result').hidden = true;
  form.show([]);
  try {
    const { result, steps, frame, bytesDown } = await ask('score', { transaction: form.read() });
    showScore(result);
    const total = steps.reduce((sum, { ms }) => sum + ms, 0);
    byId('steps').replaceChildren(
      ...steps.map(({ name, ms }) => {
        const bar = element('i');
        bar.style.setProperty('--share', `${(100 * ms) / total}%`);
        return element('li', {}, [name, bar, element('b', { textContent: milliseconds(ms) })]);
      }),
    );
    byId('bytes').textContent =
      `${kilobytes(frame.length)} sent, ${kilobytes(bytesDown)} received, ${milliseconds(total)} in all.`;
    showFrame(frame, byId('frame'));
    byId('result').hidden = false;
    say('one-status', `Score ${result.score} of 1000.`, 'good');
  } catch (error) {
    form.show((error as Failure).issues ?? []);
    throw error;
  }
});

function showScore({ score, probability, decision }: EncryptedScore): void {
  byId('score').textContent = String(score);
  byId('scale-mark').style.setProperty('--at', `${score / 10}%`);
  const title = model?.contract.label.title ?? model?.contract.label.name ?? '';
  byId('probability').textContent = `Probability of “${title}”: ${percent(probability)}`;
  const badge = byId('decision');
  badge.textContent = decision ?? '';
  badge.dataset.decision = decision ?? '';
}

function percent(probability: number): string {
  return `${(100 * probability).toFixed(2)} %`;
}

onSubmit('table', 'table-status', async () => {
  const [file] = byId<HTMLInputElement>('csv').files ?? [];
  await scoreTable({ text: await file.text() });
});

byId('table-made-up').addEventListener('click', async () => {
  const contract = model?.contract;
  if (contract === undefined) return;
  try {
    await scoreTable({ transactions: Array.from({ length: MADE_UP_ROWS }, () => madeUp(contract)) });
  } catch (error) {
    sayFailure('table-status', error as Failure);
  }
});

byId('cancel').addEventListener('click', () => ask('cancel', {}));

async function scoreTable(input: Calls['scoreTable']['input']): Promise<void> {
  const all: StreamedScore[] = [];
  const [cancel, bar] = [byId<HTMLButtonElement>('cancel'), byId<HTMLProgressElement>('progress')];
  const starts = document.querySelectorAll<HTMLButtonElement>('#table button:not(#cancel)');
  byId('scores').replaceChildren();
  byId('scores-part').hidden = true;
  byId('progress-label').textContent = 'Reading the rows…';
  say('table-status', '');
  bar.removeAttribute('value');
  byId('progress-part').hidden = false;
  cancel.disabled = false;
  for (const button of starts) button.disabled = true;
  try {
    const { scored, invalid, requests, bytesUp, tookMs } = await ask('scoreTable', input, (part) => {
      const room = Math.max(0, LISTED_ROWS - all.length);
      byId('scores').append(...part.scored.slice(0, room).map(rowOf));
      all.push(...part.scored);
      bar.value = all.length / part.rows;
      byId('progress-label').textContent =
        `${all.length.toLocaleString('en')} of ${part.rows.toLocaleString('en')} rows`;
    });
    const rows = `${scored.toLocaleString('en')} rows scored in ${milliseconds(tookMs)}`;
    const wrong = invalid === 0 ? '' : `${invalid} not valid, see the table. `;
    const cost = `${kilobytes(bytesUp)} sent in ${requests} ${requests === 1 ? 'request' : 'requests'}.`;
    say('table-status', `${rows}. ${wrong}${cost}`, 'good');
  } catch (error) {
    if ((error as Failure).code !== 'CANCELLED') throw error;
    say('table-status', `Cancelled after ${all.length.toLocaleString('en')} rows.`);
  } finally {
    byId('progress-part').hidden = true;
    cancel.disabled = true;
    for (const button of starts) button.disabled = false;
    showAll(all);
  }
}

function rowOf(one: StreamedScore): HTMLTableRowElement {
  const head = element('td', { textContent: String(one.position + 1) });
  if ('issues' in one) {
    const text = one.issues.map(({ field, rule }) => `${field} ${rule}`).join('; ');
    return element('tr', {}, [head, element('td', { className: 'problem', colSpan: 3, textContent: text })]);
  }
  const decision = element('td', { textContent: one.decision ?? '' });
  decision.dataset.decision = one.decision ?? '';
  const cells = [String(one.score), percent(one.probability)].map((textContent) => element('td', { textContent }));
  return element('tr', {}, [head, ...cells, decision]);
}

function showAll(all: readonly StreamedScore[]): void {
  if (all.length === 0) return;
  const lines = all.map((one) =>
    'issues' in one
      ? `${one.position + 1},,,invalid`
      : `${one.position + 1},${one.score},${one.probability},${one.decision ?? ''}`,
  );
  offer(
    'download-scores',
    'scores.csv',
    new Blob([['row,score,probability,decision', ...lines, ''].join('\n')], { type: 'text/csv' }),
  );
  byId('shown').textContent = all.length > LISTED_ROWS ? `The table lists the first ${LISTED_ROWS}.` : '';
  byId('scores-part').hidden = false;
}

/** Lets the button save these bytes as a file, and no others it saved before. */
function offer(id: string, name: string, blob: Blob): void {
  byId(id).onclick = () => {
    const href = URL.createObjectURL(blob);
    element('a', { href, download: name }).click();
    // The browser has taken hold of the bytes by then.
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  };
}
