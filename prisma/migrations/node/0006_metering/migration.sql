-- Rotation of callers' encryption keys, and the metering of scored vectors.
ALTER TABLE "encryption_keys" ADD COLUMN "replaced_by" TEXT;

CREATE TABLE "meters" (
    "id" SERIAL NOT NULL,
    "owner" TEXT NOT NULL,
    "model_hash" TEXT NOT NULL,
    "vectors" BIGINT NOT NULL DEFAULT 0,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "meters_pkey" PRIMARY KEY ("id")
);
CREATE UNIQUE INDEX "meters_owner_model_hash_key" ON "meters"("owner", "model_hash");
ALTER TABLE "meters" ADD CONSTRAINT "meters_vectors" CHECK ("vectors" >= 0);

CREATE TABLE "metered_vectors" (
    "meter_id" INTEGER NOT NULL,
    "tag" BYTEA NOT NULL,
    "vectors" INTEGER NOT NULL,
    "answers" INTEGER NOT NULL DEFAULT 1,
    "counted_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "metered_vectors_pkey" PRIMARY KEY ("meter_id", "tag")
);
ALTER TABLE "metered_vectors" ADD CONSTRAINT "metered_vectors_tag" CHECK (octet_length("tag") = 16);
ALTER TABLE "metered_vectors" ADD CONSTRAINT "metered_vectors_vectors" CHECK ("vectors" >= 1);

CREATE TABLE "vector_limits" (
    "owner" TEXT NOT NULL,
    "vectors" BIGINT NOT NULL,
    "updated_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "vector_limits_pkey" PRIMARY KEY ("owner")
);
ALTER TABLE "vector_limits" ADD CONSTRAINT "vector_limits_vectors" CHECK ("vectors" >= 0);

-- What a caller registered does not change, what was taken from it is never given back, and a count only grows.
CREATE FUNCTION "veilrisk_key_only_ends"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW."key_id", NEW."preset", NEW."owner", NEW."public_key", NEW."created_at")
      IS DISTINCT FROM (OLD."key_id", OLD."preset", OLD."owner", OLD."public_key", OLD."created_at")
    OR (OLD."revoked_at" IS NOT NULL AND NEW."revoked_at" IS DISTINCT FROM OLD."revoked_at")
    OR (OLD."replaced_by" IS NOT NULL AND NEW."replaced_by" IS DISTINCT FROM OLD."replaced_by")
    OR (OLD."expires_at" IS NOT NULL AND (NEW."expires_at" IS NULL OR NEW."expires_at" > OLD."expires_at"))
  THEN
    RAISE EXCEPTION 'veilrisk: an encryption key only ends' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER "encryption_keys_only_end" BEFORE UPDATE ON "encryption_keys"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_key_only_ends"();

CREATE FUNCTION "veilrisk_meter_grows"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW."vectors" < OLD."vectors" OR (NEW."owner", NEW."model_hash") IS DISTINCT FROM (OLD."owner", OLD."model_hash") THEN
    RAISE EXCEPTION 'veilrisk: a meter only grows' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER "meters_grow" BEFORE UPDATE ON "meters"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_meter_grows"();
CREATE TRIGGER "meters_no_delete" BEFORE DELETE ON "meters"
  FOR EACH ROW EXECUTE FUNCTION "veilrisk_refuse"();
CREATE TRIGGER "meters_no_truncate" BEFORE TRUNCATE ON "meters"
  FOR EACH STATEMENT EXECUTE FUNCTION "veilrisk_refuse"();
