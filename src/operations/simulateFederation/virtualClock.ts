/**
 * Virtual time: events are taken in the order of their time, ties in the order they were planned, and time jumps from one
 * to the next. What an event does is finished before the next one begins, so a run is a function of its seeds.
 *
 * A binary heap (Knuth, TAOCP 3, section 5.2.3). Limit: one thread; work takes no virtual time.
 */

interface Event {
  readonly at: number;
  readonly order: number;
  readonly work: () => void | Promise<void>;
}

export class VirtualClock {
  readonly #heap: Event[] = [];
  #now = 0;
  #planned = 0;

  /** Virtual milliseconds since the beginning. */
  get now(): number {
    return this.#now;
  }

  /** Plans work `inMs` from now, >= 0. */
  after(inMs: number, work: () => void | Promise<void>): void {
    const heap = this.#heap;
    const event = { at: this.#now + Math.max(0, inMs), order: this.#planned++, work };
    let at = heap.length;
    heap.push(event);
    for (let parent = (at - 1) >> 1; at > 0 && isBefore(event, heap[parent]); parent = (at - 1) >> 1) {
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = event;
  }

  /** Takes events until `ended` or none is left. @returns how many it took. */
  async run(ended: () => boolean): Promise<number> {
    let taken = 0;
    while (!ended()) {
      const event = this.#next();
      if (event === undefined) break;
      this.#now = event.at;
      taken++;
      await event.work();
    }
    return taken;
  }

  #next(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1], heap[child])) child++;
      if (!isBefore(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
