#!/bin/sh
# Regenerates the committed clients: Prisma's (both schemas), the protocol's and the ONNX subset's. Needs the npm
# registry; nothing at run time or in the tests needs this. Prisma's CLI wants a schema engine at start: any existing
# file satisfies it.
set -eu
cd "$(dirname "$0")/.."
export PRISMA_SCHEMA_ENGINE_BINARY=/bin/true PRISMA_QUERY_ENGINE_LIBRARY=/bin/true CHECKPOINT_DISABLE=1
npx --yes -p prisma@7.10.0 prisma generate --schema prisma/node.prisma
npx --yes -p prisma@7.10.0 prisma generate --schema prisma/aggregator.prisma
npx --yes -p @bufbuild/buf@1.75.0 buf generate
npx --yes -p @bufbuild/buf@1.75.0 buf generate src/inference --template buf.gen.onnx.yaml
