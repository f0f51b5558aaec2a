-- CreateSchema
CREATE SCHEMA IF NOT EXISTS "public";

-- CreateTable
CREATE TABLE "node_identity" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "name" TEXT NOT NULL,
    "public_key" TEXT NOT NULL,
    "log_verifier_key" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "node_identity_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "datasets" (
    "id" SERIAL NOT NULL,
    "name" TEXT NOT NULL,
    "contract_hash" TEXT NOT NULL,
    "contract_json" BYTEA NOT NULL,
    "records" INTEGER NOT NULL DEFAULT 0,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "datasets_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "imports" (
    "id" SERIAL NOT NULL,
    "dataset_id" INTEGER NOT NULL,
    "file_sha256" TEXT NOT NULL,
    "rows_read" INTEGER NOT NULL,
    "rows_kept" INTEGER NOT NULL,
    "rows_bad" INTEGER NOT NULL,
    "clamped" INTEGER NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "imports_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "records" (
    "dataset_id" INTEGER NOT NULL,
    "seq" INTEGER NOT NULL,
    "import_id" INTEGER NOT NULL,
    "subject" BYTEA NOT NULL,
    "label" SMALLINT,
    "time" TIMESTAMPTZ(3),
    "bins" BYTEA NOT NULL,

    CONSTRAINT "records_pkey" PRIMARY KEY ("dataset_id","seq")
);

-- CreateTable
CREATE TABLE "budgets" (
    "dataset_id" INTEGER NOT NULL,
    "epsilon" DOUBLE PRECISION NOT NULL,
    "delta" DOUBLE PRECISION NOT NULL,
    "mu_squared" DECIMAL(65,30) NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "budgets_pkey" PRIMARY KEY ("dataset_id")
);

-- CreateTable
CREATE TABLE "releases" (
    "id" BIGSERIAL NOT NULL,
    "dataset_id" INTEGER NOT NULL,
    "plan_id" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "attempt" INTEGER NOT NULL,
    "mu_squared" DECIMAL(65,30) NOT NULL,
    "state" TEXT NOT NULL,
    "statement" JSONB NOT NULL,
    "payload" BYTEA,
    "payload_sha256" TEXT,
    "reserved_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "settled_at" TIMESTAMPTZ(3),

    CONSTRAINT "releases_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "plans" (
    "id" TEXT NOT NULL,
    "hash" TEXT NOT NULL,
    "plan_json" BYTEA NOT NULL,
    "proposal" BYTEA,
    "dataset_id" INTEGER,
    "state" TEXT NOT NULL,
    "reason" TEXT,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "plans_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "models" (
    "hash" TEXT NOT NULL,
    "contract_hash" TEXT NOT NULL,
    "contract_json" BYTEA NOT NULL,
    "model_json" BYTEA NOT NULL,
    "plan_id" TEXT,
    "evidence" BYTEA,
    "status" TEXT NOT NULL,
    "adopted_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "retired_at" TIMESTAMPTZ(3),

    CONSTRAINT "models_pkey" PRIMARY KEY ("hash")
);

-- CreateTable
CREATE TABLE "decisions" (
    "id" TEXT NOT NULL,
    "api_key" TEXT NOT NULL,
    "idempotency_key" TEXT NOT NULL,
    "body_hash" TEXT NOT NULL,
    "reply" TEXT NOT NULL,
    "model_hash" TEXT NOT NULL,
    "audit_index" BIGINT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "decisions_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "personal" (
    "audit_index" BIGINT NOT NULL,
    "name" TEXT NOT NULL,
    "subject" BYTEA,
    "salt" BYTEA NOT NULL,
    "value" BYTEA NOT NULL,

    CONSTRAINT "personal_pkey" PRIMARY KEY ("audit_index","name")
);

-- CreateTable
CREATE TABLE "encryption_keys" (
    "key_id" TEXT NOT NULL,
    "preset" TEXT NOT NULL,
    "owner" TEXT NOT NULL,
    "public_key" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3),
    "revoked_at" TIMESTAMPTZ(3),

    CONSTRAINT "encryption_keys_pkey" PRIMARY KEY ("key_id")
);

-- CreateTable
CREATE TABLE "api_keys" (
    "prefix" TEXT NOT NULL,
    "secret_hash" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "scopes" TEXT[],
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "expires_at" TIMESTAMPTZ(3),
    "revoked_at" TIMESTAMPTZ(3),

    CONSTRAINT "api_keys_pkey" PRIMARY KEY ("prefix")
);

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

-- CreateIndex
CREATE UNIQUE INDEX "datasets_name_key" ON "datasets"("name");

-- CreateIndex
CREATE UNIQUE INDEX "imports_dataset_id_file_sha256_key" ON "imports"("dataset_id", "file_sha256");

-- CreateIndex
CREATE UNIQUE INDEX "releases_dataset_id_plan_id_round_attempt_key" ON "releases"("dataset_id", "plan_id", "round", "attempt");

-- CreateIndex
CREATE UNIQUE INDEX "decisions_api_key_idempotency_key_key" ON "decisions"("api_key", "idempotency_key");

-- CreateIndex
CREATE INDEX "personal_subject_idx" ON "personal"("subject");

-- CreateIndex
CREATE INDEX "encryption_keys_owner_idx" ON "encryption_keys"("owner");

-- AddForeignKey
ALTER TABLE "imports" ADD CONSTRAINT "imports_dataset_id_fkey" FOREIGN KEY ("dataset_id") REFERENCES "datasets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "budgets" ADD CONSTRAINT "budgets_dataset_id_fkey" FOREIGN KEY ("dataset_id") REFERENCES "datasets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "releases" ADD CONSTRAINT "releases_dataset_id_fkey" FOREIGN KEY ("dataset_id") REFERENCES "datasets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "plans" ADD CONSTRAINT "plans_dataset_id_fkey" FOREIGN KEY ("dataset_id") REFERENCES "datasets"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- What Prisma's schema cannot say: closed sets, one champion, and the rows that never change.

ALTER TABLE "releases" ADD CONSTRAINT "releases_state" CHECK ("state" IN ('reserved', 'committed', 'lost', 'refused'));
ALTER TABLE "releases" ADD CONSTRAINT "releases_mu_squared" CHECK ("mu_squared" >= 0);
ALTER TABLE "releases" ADD CONSTRAINT "releases_attempt" CHECK ("attempt" >= 1);
ALTER TABLE "budgets" ADD CONSTRAINT "budgets_mu_squared" CHECK ("mu_squared" >= 0);
ALTER TABLE "plans" ADD CONSTRAINT "plans_state" CHECK ("state" IN ('accepted', 'refused', 'completed', 'aborted'));
ALTER TABLE "models" ADD CONSTRAINT "models_status" CHECK ("status" IN ('champion', 'retired'));
ALTER TABLE "records" ADD CONSTRAINT "records_label" CHECK ("label" IN (0, 1));
ALTER TABLE "records" ADD CONSTRAINT "records_subject" CHECK (octet_length("subject") = 32);
ALTER TABLE "audit_entries" ADD CONSTRAINT "audit_entries_size" CHECK (octet_length("bytes") <= 65535);
ALTER TABLE "audit_head" ADD CONSTRAINT "audit_head_single" CHECK ("id" = 1);
ALTER TABLE "node_identity" ADD CONSTRAINT "node_identity_single" CHECK ("id" = 1);

CREATE UNIQUE INDEX "models_one_champion" ON "models" ("status") WHERE "status" = 'champion';

-- The entries that the ledger is cross-checked against at start, found without reading the whole log.
CREATE INDEX "audit_entries_reservations" ON "audit_entries" ("index")
  WHERE position('"type":"privacy.reserve"'::bytea IN "bytes") > 0;

-- Bins do not compress; keeping them out of the compressor makes the import faster.
ALTER TABLE "records" ALTER COLUMN "bins" SET STORAGE EXTERNAL;

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
CREATE TRIGGER "releases_no_delete" BEFORE DELETE ON "releases"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "releases_no_truncate" BEFORE TRUNCATE ON "releases"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "budgets_no_delete" BEFORE DELETE ON "budgets"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "budgets_no_truncate" BEFORE TRUNCATE ON "budgets"
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

CREATE FUNCTION "veilrisk_release_settles_once"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD."state" <> 'reserved' OR NEW."state" NOT IN ('committed', 'lost')
    OR (NEW."id", NEW."dataset_id", NEW."plan_id", NEW."round", NEW."attempt", NEW."mu_squared", NEW."statement", NEW."reserved_at")
      IS DISTINCT FROM
       (OLD."id", OLD."dataset_id", OLD."plan_id", OLD."round", OLD."attempt", OLD."mu_squared", OLD."statement", OLD."reserved_at")
  THEN
    RAISE EXCEPTION 'veilrisk: a release only goes from reserved to committed or lost, once'
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER "releases_settle_once" BEFORE UPDATE ON "releases"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_release_settles_once"();
