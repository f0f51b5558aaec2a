/** A small contract with every kind of field, as a plain document that tests may change. */
export function exampleDocument() {
  return {
    format: 'veilrisk-contract/1',
    name: 'loans',
    version: 1,
    title: 'Consumer loans',
    fields: [
      { kind: 'numeric', name: 'income', min: 0, max: 100, bins: 4, reason: { code: 'INCOME', text: 'Income' } },
      {
        kind: 'numeric',
        name: 'debt',
        min: 0,
        max: 1_000_000,
        scale: 'log1p',
        bins: 6,
        reason: { code: 'DEBT', text: 'Debt' },
      },
      {
        kind: 'categorical',
        name: 'purpose',
        categories: ['car', 'home'],
        reason: { code: 'PURPOSE', text: 'Purpose' },
      },
      { kind: 'boolean', name: 'employed', reason: { code: 'EMPLOYED', text: 'In employment' } },
    ] as Record<string, unknown>[],
    label: { name: 'default', positive: ['1'], negative: ['0'] } as Record<string, unknown>,
    subject: 'customer' as string | null,
    time: 'when' as string | null,
  };
}
