/**
 * The made-up bank of the audit: few fields of few bins, a handful of others, and the customer that is in it or not.
 *
 * More fields or rows would cost time and tell the attacker nothing: he knows the others and takes the likelihood ratio.
 */
import { type Contract, layoutOf, parseContract } from '../../contract/contract.ts';
import { PrivacyError } from '../../errors.ts';
import { type BinnedData, checkBinned, selectRows } from '../../learning/binned.ts';
import { boundContributions } from '../../privacy/contributions.ts';

// The first field has bins enough to be released at knots; the customer is at one, in bin 0.
const FIELDS = [
  { kind: 'numeric', min: 0, max: 4, scale: 'linear', bins: 4 },
  { kind: 'categorical', categories: ['a'] },
  { kind: 'categorical', categories: ['a', 'b'] },
  { kind: 'boolean' },
];

/** @param most records a customer may have. */
export function auditContract(most: number): Contract {
  return parseContract({
    format: 'veilrisk-contract/1',
    name: 'privacy-audit',
    version: 1,
    title: 'Made-up records of the privacy audit',
    synthetic: true,
    fields: FIELDS.map((field, k) => ({
      ...field,
      name: `field-${k}`,
      reason: { code: `FIELD_${k}`, text: `Field ${k}` },
    })),
    label: { name: 'label', positive: ['1'], negative: ['0'] },
    subject: 'customer',
    time: null,
    maxRecordsPerSubject: most,
  });
}

/** Records of the others. */
const OTHERS = 6;

/**
 * A bank's rows as a node trains on them, after the bound on contributions: the others, label 0 and 1 in turn, and the
 * customer, label 1, who has one record more than is used, all alike.
 *
 * @param others whether there are any.
 */
export function auditRows(contract: Contract, isPresent: boolean, others = true): BinnedData {
  const { sizes } = layoutOf(contract);
  const most = contract.maxRecordsPerSubject;
  const first = others ? OTHERS : 0;
  const rows = first + (isPresent ? most + 1 : 0);
  const bins = new Uint16Array(rows * sizes.length);
  const labels = new Uint8Array(rows);
  const subjects: string[] = [];
  for (let row = 0; row < rows; row++) {
    const isCustomer = row >= first;
    for (let k = 0; k < sizes.length; k++) bins[row * sizes.length + k] = isCustomer ? k % sizes[k] : row % sizes[k];
    labels[row] = isCustomer ? 1 : row % 2;
    subjects.push(isCustomer ? 'canary' : `other ${row}`);
  }
  // A fixed key: which of the customer's equal records stay makes no difference here.
  const kept = boundContributions(subjects, new Uint8Array(32), most);
  const data = selectRows({ rows, sizes, bins, labels }, kept);
  checkBinned(data);
  if (data.rows !== first + (isPresent ? most : 0)) {
    throw new PrivacyError('PRIVACY_PARAMETER', 'the contribution bound kept another number of records than it says');
  }
  return data;
}
