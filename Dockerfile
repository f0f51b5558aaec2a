# Two images from one source: `node` (a bank's) and `aggregator` (the consortium operator's). Both run as an
# unprivileged user, hold no secret, and expect PostgreSQL elsewhere (DATABASE_URL) or use the embedded one.
#   docker build --target node -t veilrisk-node .
#   docker build --target aggregator -t veilrisk-aggregator .
ARG BASE=node:24-bookworm-slim

FROM ${BASE} AS installed
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev && npm cache clean --force
COPY LICENSE README.md ./
COPY prisma ./prisma
COPY contracts ./contracts
COPY federated ./federated
COPY src ./src

FROM ${BASE} AS runtime
ENV NODE_ENV=production PATH=/app/node_modules/.bin:$PATH
WORKDIR /app
RUN groupadd --gid 10001 veilrisk && useradd --uid 10001 --gid veilrisk --create-home veilrisk \
  && mkdir /data && chown veilrisk:veilrisk /data
COPY --from=installed /app /app
USER veilrisk
VOLUME /data

FROM runtime AS aggregator
EXPOSE 7443
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "src/main.ts", "aggregator", "health", "--data-dir", "/data"]
ENTRYPOINT ["node", "src/main.ts"]
CMD ["aggregator", "start", "--data-dir", "/data", "--host", "0.0.0.0", "--port", "7443"]

FROM runtime AS node
ENV VEILRISK_DATA_DIR=/data VEILRISK_HOST=0.0.0.0 VEILRISK_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8080/healthz').then((reply) => process.exit(reply.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "src/main.ts"]
CMD ["node", "start"]
