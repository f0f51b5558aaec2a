-- The entries that the budgets are cross-checked against at start, found without reading the whole log.
CREATE INDEX "audit_entries_budgets" ON "audit_entries" ("index")
  WHERE position('"type":"dataset.create"'::bytea IN "bytes") > 0;
