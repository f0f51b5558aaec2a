/**
 * The erasable side of the log: salt and value behind each commitment. Deleting a row is the erasure; the log still
 * verifies, and the commitment says nothing any more. The erasure is itself an entry, appended by the caller.
 */
import { asBytes, type Db, type Session } from './session.ts';

/** One value that an entry commits to. */
export interface PersonalValue {
  /** Name of the commitment in the entry. */
  name: string;
  /** 32 random bytes. */
  salt: Uint8Array;
  value: Uint8Array;
  /** HMAC of the customer key, 32 bytes: what an erasure asks for; null when no customer was named. */
  subject: Uint8Array | null;
}

export function readPersonal(db: Db) {
  return {
    /** What can still be opened of an entry's commitments. */
    async of(auditIndex: number): Promise<PersonalValue[]> {
      const where = { auditIndex: BigInt(auditIndex) };
      const rows = await db.personal.findMany({ where, orderBy: { name: 'asc' } });
      return rows.map(({ name, salt, value, subject }) => ({ name, salt, value, subject }));
    },
  };
}

export function writePersonal({ db }: Session) {
  return {
    ...readPersonal(db),
    async put(auditIndex: number, values: readonly PersonalValue[]): Promise<void> {
      const data = values.map(({ name, salt, value, subject }) => ({
        ...{ auditIndex: BigInt(auditIndex), name, salt: asBytes(salt), value: asBytes(value) },
        subject: subject === null ? null : asBytes(subject),
      }));
      await db.personal.createMany({ data });
    },
    /** Deletes everything about a customer; returns the indices of the entries concerned, ascending. */
    async erase(subject: Uint8Array): Promise<number[]> {
      const where = { subject: asBytes(subject) };
      const rows = await db.personal.findMany({ where, select: { auditIndex: true }, distinct: ['auditIndex'] });
      await db.personal.deleteMany({ where });
      return rows.map(({ auditIndex }) => Number(auditIndex)).sort((a, b) => a - b);
    },
  };
}

export type PersonalReader = ReturnType<typeof readPersonal>;
export type PersonalWriter = ReturnType<typeof writePersonal>;
