-- CreateTable
CREATE TABLE "identities" (
    "id" INTEGER NOT NULL DEFAULT 1,
    "public_key" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "identities_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "plans" (
    "id" TEXT NOT NULL,
    "plan_hash" TEXT NOT NULL,
    "plan_json" BYTEA NOT NULL,
    "contract_json" BYTEA NOT NULL,
    "proposal" BYTEA NOT NULL,
    "proposal_digest" TEXT NOT NULL,
    "roster_hash" TEXT NOT NULL,
    "acceptance_deadline_ms" INTEGER NOT NULL,
    "state" TEXT NOT NULL,
    "code" TEXT NOT NULL DEFAULT '',
    "reason" TEXT NOT NULL DEFAULT '',
    "round" INTEGER NOT NULL DEFAULT 0,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "ended_at" TIMESTAMPTZ(3),

    CONSTRAINT "plans_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "answers" (
    "plan_id" TEXT NOT NULL,
    "site" TEXT NOT NULL,
    "accepted" BOOLEAN NOT NULL,
    "code" TEXT NOT NULL,
    "reason" TEXT NOT NULL,
    "message_id" TEXT NOT NULL,
    "body_digest" TEXT NOT NULL,
    "envelope" BYTEA NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "acknowledged_at" TIMESTAMPTZ(3),

    CONSTRAINT "answers_pkey" PRIMARY KEY ("plan_id","site")
);

-- CreateTable
CREATE TABLE "rounds" (
    "plan_id" TEXT NOT NULL,
    "number" INTEGER NOT NULL,
    "state" TEXT NOT NULL,
    "attempt" INTEGER NOT NULL DEFAULT 0,
    "trainer_state" TEXT NOT NULL,
    "state_hash" TEXT NOT NULL,
    "contributors" TEXT[],
    "opened_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "closed_at" TIMESTAMPTZ(3),

    CONSTRAINT "rounds_pkey" PRIMARY KEY ("plan_id","number")
);

-- CreateTable
CREATE TABLE "messages" (
    "plan_id" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "site" TEXT NOT NULL,
    "message_id" TEXT NOT NULL,
    "body_digest" TEXT NOT NULL,
    "envelope" BYTEA NOT NULL,
    "refused" BOOLEAN NOT NULL,
    "received_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "messages_pkey" PRIMARY KEY ("plan_id","round","site")
);

-- CreateTable
CREATE TABLE "models" (
    "plan_id" TEXT NOT NULL,
    "model_json" BYTEA NOT NULL,
    "model_hash" TEXT NOT NULL,
    "envelope" BYTEA NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "models_pkey" PRIMARY KEY ("plan_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "plans_plan_hash_key" ON "plans"("plan_hash");

-- CreateIndex
CREATE INDEX "plans_state_idx" ON "plans"("state");

-- CreateIndex
CREATE INDEX "answers_site_acknowledged_at_idx" ON "answers"("site", "acknowledged_at");

-- CreateIndex
CREATE UNIQUE INDEX "messages_site_message_id_key" ON "messages"("site", "message_id");

-- AddForeignKey
ALTER TABLE "answers" ADD CONSTRAINT "answers_plan_id_fkey" FOREIGN KEY ("plan_id") REFERENCES "plans"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "rounds" ADD CONSTRAINT "rounds_plan_id_fkey" FOREIGN KEY ("plan_id") REFERENCES "plans"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "messages" ADD CONSTRAINT "messages_plan_id_fkey" FOREIGN KEY ("plan_id") REFERENCES "plans"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "models" ADD CONSTRAINT "models_plan_id_fkey" FOREIGN KEY ("plan_id") REFERENCES "plans"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
