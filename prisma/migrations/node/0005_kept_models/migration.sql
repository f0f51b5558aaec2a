-- Logistic regression and networks trained between banks are kept with their evidence; this node scores with scorecards.
ALTER TABLE "models" DROP CONSTRAINT "models_status";
ALTER TABLE "models" ADD CONSTRAINT "models_status" CHECK ("status" IN ('champion', 'retired', 'kept'));
