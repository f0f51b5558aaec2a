/** Jest's globalTeardown: see databaseServers.ts. */
export { closeServers as default } from './databaseServers.ts';
