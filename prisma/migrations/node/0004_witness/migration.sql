-- Logs this node witnesses, and who witnesses its own.

-- CreateTable
CREATE TABLE "audit_cosignatures" (
    "witness" TEXT NOT NULL,
    "size" BIGINT NOT NULL,
    "checkpoint" TEXT NOT NULL,
    "line" TEXT NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_cosignatures_pkey" PRIMARY KEY ("witness","size")
);

-- CreateTable
CREATE TABLE "witness_heads" (
    "origin" TEXT NOT NULL,
    "verifier_key" TEXT NOT NULL,
    "size" BIGINT NOT NULL,
    "root" BYTEA NOT NULL,
    "checkpoint" TEXT NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "witness_heads_pkey" PRIMARY KEY ("origin")
);

-- CreateTable
CREATE TABLE "witness_evidence" (
    "digest" TEXT NOT NULL,
    "origin" TEXT NOT NULL,
    "verifier_key" TEXT NOT NULL,
    "known" TEXT NOT NULL,
    "shown" TEXT NOT NULL,
    "old_size" BIGINT NOT NULL,
    "proof" BYTEA NOT NULL,
    "reason" TEXT NOT NULL,
    "seen_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "witness_evidence_pkey" PRIMARY KEY ("digest")
);

CREATE TRIGGER "audit_cosignatures_append_only" BEFORE UPDATE OR DELETE ON "audit_cosignatures"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "audit_cosignatures_no_truncate" BEFORE TRUNCATE ON "audit_cosignatures"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "witness_evidence_append_only" BEFORE UPDATE OR DELETE ON "witness_evidence"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "witness_evidence_no_truncate" BEFORE TRUNCATE ON "witness_evidence"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "witness_heads_no_delete" BEFORE DELETE ON "witness_heads"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "witness_heads_no_truncate" BEFORE TRUNCATE ON "witness_heads"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();

CREATE FUNCTION "veilrisk_witness_grows"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW."origin" <> OLD."origin" OR NEW."verifier_key" <> OLD."verifier_key" OR NEW."size" <= OLD."size" THEN
    RAISE EXCEPTION 'veilrisk: what a witness has accepted only grows' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER "witness_heads_grow" BEFORE UPDATE ON "witness_heads"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_witness_grows"();
