/**
 * What the pools of this room share: how their threads start, how an error crosses back from one, and the memory in which
 * both sides see the same records.
 */
import { Piscina } from 'piscina';
import { LearningError, type LearningErrorCode, PrivacyError, type PrivacyErrorCode } from '../errors.ts';
import type { BinnedData } from '../learning/binned.ts';

/** @param worker module of the threads. @param threads that run side by side, at least 1. */
export function openThreads(worker: URL, threads: number): Piscina {
  return new Piscina({
    filename: worker.href,
    minThreads: threads,
    maxThreads: threads,
    // A parent's loader flags (a test runner's, a debugger's port) are not for the thread.
    execArgv: [],
  });
}

/** An error as data: a structured clone loses class and code. */
export interface JobFailure {
  readonly ok: false;
  readonly error:
    | { readonly room: 'learning'; readonly code: LearningErrorCode }
    | { readonly room: 'privacy'; readonly code: PrivacyErrorCode };
  readonly message: string;
  readonly where: string | undefined;
  readonly fix: string | undefined;
}

/** What a thread answers for an error of learning or privacy; any other is thrown on and ends its job. */
export function failureOf(error: unknown): JobFailure {
  if (!(error instanceof LearningError || error instanceof PrivacyError)) throw error;
  const { message, where, fix } = error;
  const named: JobFailure['error'] =
    error instanceof LearningError ? { room: 'learning', code: error.code } : { room: 'privacy', code: error.code };
  return { ok: false, error: named, message, where, fix };
}

/** The error that `failureOf` took apart. */
export function errorOf({ error, message, where, fix }: JobFailure): LearningError | PrivacyError {
  const detail = { ...(where === undefined ? {} : { where }), ...(fix === undefined ? {} : { fix }) };
  if (error.room === 'learning') return new LearningError(error.code, message, detail);
  return new PrivacyError(error.code, message, detail);
}

/** Memory that both threads see, for `selectRows`: data in it is not copied again. */
export function sharedMemory(bytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(bytes);
}

/** The same records in memory that both threads see, copied unless they lie there already. */
export function inSharedMemory(data: BinnedData): BinnedData {
  if (data.bins.buffer instanceof SharedArrayBuffer && data.labels.buffer instanceof SharedArrayBuffer) return data;
  const bins = new Uint16Array(sharedMemory(data.bins.byteLength));
  const labels = new Uint8Array(sharedMemory(data.labels.byteLength));
  bins.set(data.bins);
  labels.set(data.labels);
  return { ...data, bins, labels };
}
