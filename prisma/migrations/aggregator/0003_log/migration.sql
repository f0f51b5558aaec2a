-- The aggregator's own log, the heads its sites were shown, and the logs it witnesses.

-- CreateTable
CREATE TABLE "audit_entries" (
    "index" BIGINT NOT NULL,
    "node" BYTEA NOT NULL,
    "bytes" BYTEA NOT NULL,

    CONSTRAINT "audit_entries_pkey" PRIMARY KEY ("index")
);

-- CreateTable
CREATE TABLE "audit_head" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "size" BIGINT NOT NULL,
    "range" BYTEA NOT NULL,
    "root" BYTEA NOT NULL,
    "checkpoint" TEXT NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "audit_head_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "round_heads" (
    "plan_id" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "attempt" INTEGER NOT NULL,
    "size" BIGINT NOT NULL,
    "checkpoint" TEXT NOT NULL,

    CONSTRAINT "round_heads_pkey" PRIMARY KEY ("plan_id","round","attempt")
);

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

-- What Prisma's schema cannot say: one head, and the rows that never change.

ALTER TABLE "audit_entries" ADD CONSTRAINT "audit_entries_size" CHECK (octet_length("bytes") <= 65535);
ALTER TABLE "audit_head" ADD CONSTRAINT "audit_head_single" CHECK ("id" = 1);

-- The newest roster in the log, found without reading the whole log.
CREATE INDEX "audit_entries_rosters" ON "audit_entries" ("index")
  WHERE position('"type":"roster"'::bytea IN "bytes") > 0;

CREATE FUNCTION "veilrisk_refuse"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'veilrisk: % on % is not allowed', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER "audit_entries_append_only" BEFORE UPDATE OR DELETE ON "audit_entries"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "audit_entries_no_truncate" BEFORE TRUNCATE ON "audit_entries"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "audit_head_no_delete" BEFORE DELETE ON "audit_head"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "audit_head_no_truncate" BEFORE TRUNCATE ON "audit_head"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "round_heads_append_only" BEFORE UPDATE OR DELETE ON "round_heads"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "round_heads_no_truncate" BEFORE TRUNCATE ON "round_heads"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();

CREATE FUNCTION "veilrisk_head_grows"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW."size" <= OLD."size" THEN
    RAISE EXCEPTION 'veilrisk: the audit log only grows' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER "audit_head_grows" BEFORE UPDATE ON "audit_head"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_head_grows"();

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
