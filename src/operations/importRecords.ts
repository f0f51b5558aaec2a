export { fingerprintFile, readRows } from './readRows.ts';
