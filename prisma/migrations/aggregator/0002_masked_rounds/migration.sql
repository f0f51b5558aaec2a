-- AlterTable
ALTER TABLE "plans" ADD COLUMN "revision" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "lease_holder" TEXT NOT NULL DEFAULT '',
ADD COLUMN "lease_token" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "lease_expires_at" TIMESTAMPTZ(3);

-- AlterTable
ALTER TABLE "rounds" ADD COLUMN "phase" TEXT NOT NULL DEFAULT 'inputs',
ADD COLUMN "extensions" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "epoch" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "slot" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN "members" TEXT[],
ADD COLUMN "survivors" TEXT[],
ADD COLUMN "sum" BYTEA;

-- AlterTable
ALTER TABLE "messages" DROP CONSTRAINT "messages_pkey",
ADD COLUMN "kind" TEXT NOT NULL DEFAULT 'update',
ADD COLUMN "attempt" INTEGER NOT NULL DEFAULT 0,
ADD CONSTRAINT "messages_pkey" PRIMARY KEY ("plan_id", "kind", "round", "attempt", "site");

-- CreateTable
CREATE TABLE "epochs" (
    "plan_id" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "phase" TEXT NOT NULL,
    "slots" INTEGER NOT NULL,
    "next_slot" INTEGER NOT NULL DEFAULT 0,
    "asked" TEXT[],
    "advertisers" TEXT[],
    "holders" TEXT[],
    "opened_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "epochs_pkey" PRIMARY KEY ("plan_id","number")
);

-- CreateTable
CREATE TABLE "presences" (
    "site" TEXT NOT NULL,
    "incarnation" TEXT NOT NULL,
    "process" TEXT NOT NULL,
    "connected" BOOLEAN NOT NULL,
    "seen_at" TIMESTAMPTZ(3) NOT NULL,

    CONSTRAINT "presences_pkey" PRIMARY KEY ("site")
);

-- AddForeignKey
ALTER TABLE "epochs" ADD CONSTRAINT "epochs_plan_id_fkey" FOREIGN KEY ("plan_id") REFERENCES "plans"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- Noise and masks do not compress, and a state is read as often as it is written: spend no time on trying.
ALTER TABLE "messages" ALTER COLUMN "envelope" SET STORAGE EXTERNAL;
ALTER TABLE "rounds" ALTER COLUMN "trainer_state" SET STORAGE EXTERNAL;
