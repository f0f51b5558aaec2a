-- Sums this node helped to unmask: one a round, for ever.
CREATE TABLE "revealed_sums" (
    "plan_id" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "attempt" INTEGER NOT NULL,
    "agreement" BYTEA NOT NULL,
    "revealed_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "revealed_sums_pkey" PRIMARY KEY ("plan_id","round")
);
ALTER TABLE "revealed_sums" ADD CONSTRAINT "revealed_sums_agreement" CHECK (octet_length("agreement") = 32);
CREATE TRIGGER "revealed_sums_append_only" BEFORE UPDATE OR DELETE ON "revealed_sums"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "revealed_sums_no_truncate" BEFORE TRUNCATE ON "revealed_sums"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();

-- A plan may wait for a person.
ALTER TABLE "plans" DROP CONSTRAINT "plans_state";
ALTER TABLE "plans" ADD CONSTRAINT "plans_state" CHECK ("state" IN ('offered', 'accepted', 'refused', 'completed', 'aborted'));
