/** Media types and sizes of request bodies, by route. */

/** Room for some hundred fields with names and texts at their limits. */
export const SCORE_LIMIT_BYTES = 128 * 1024;

/** Most for an encrypted request whatever the contract; the champion's dimension usually allows less. */
export const ENCRYPTED_LIMIT_BYTES = 64 * 1024 * 1024;

/** For the bodies of all binary requests that are read or worked on at once. */
export const BODIES_LIMIT_BYTES = 256 * 1024 * 1024;

/** A public key of the conservative preset is below 1 MB even without seed compression. */
export const PUBLIC_KEY_LIMIT_BYTES = 2 * 1024 * 1024;

export const ENCRYPTED_MEDIA_TYPE = 'application/vnd.veilrisk.encrypted-scores';
export const PUBLIC_KEY_MEDIA_TYPE = 'application/vnd.veilrisk.public-key';
const ANY_BYTES = 'application/octet-stream';
export const BINARY_TYPES = [ANY_BYTES, ENCRYPTED_MEDIA_TYPE] as const;
export const PUBLIC_KEY_TYPES = [ANY_BYTES, PUBLIC_KEY_MEDIA_TYPE] as const;
