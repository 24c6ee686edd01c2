/**
 * The events of one answer, over as many connections as it takes.
 *
 * Its one rule: an event is passed on once, whole and as it came, or not at all.
 */

import { Framing, joined, said } from "./events.ts";
import { isPassing, pause, type Sleep } from "./waiting.ts";

/** What a stream needs of the world outside. */
export interface World {
  fetch: typeof globalThis.fetch;
  random: () => number;
  sleep: Sleep;
  now: () => number;
  /** Milliseconds of waiting between tries without one new event, after which the cut is told. */
  patience: number;
  /** Milliseconds: a connection that has brought no byte for so long, or for up to twice that, is taken for dead. */
  idle: number;
}

/** How the stream is asked for again: its id, its address, and what makes the options of a call. */
export interface Address {
  id: string;
  url: string;
  /** Whether its model is stopped when nobody gives a sign of life. */
  isWatched: boolean;
  init(method: string): Promise<RequestInit>;
}

const STOPS = 5;
/** Milliseconds between signs of life. Without one for 30 seconds the proxy takes its client for gone. */
const BEAT = 9_000;
/** An answer without a last event has ended where so many connections in a row had nothing more to say. */
const BELIEVED = 2;
const DEAD = Symbol();
const NOTHING = new Uint8Array(0);

/** The stream is gone: the reason is told as a cut is told without this library. */
class Gone extends Error {}

export class Events {
  #world: World;
  #address: Address;
  #over: (isEnd: boolean) => void;
  #reader!: ReadableStreamDefaultReader<Uint8Array>;
  #watch!: AbortController;
  #reads = 0;
  #isWaiting = false;
  #isDead = false;
  #connection = new AbortController();
  #framing = new Framing();
  #last: number;
  /** Connections, one after the other, that were closed in good order and had nothing new. */
  #quiet = 0;
  #isNew = false;
  #held = 0;
  #hasEnded = false;
  #isOver = false;
  #isTold = false;
  #life = new AbortController();
  #beat: number;
  #attempt = 0;
  #waited = 0;

  /** `over` is told once: true where the answer has ended, false where nothing more will come and it may be continued. */
  constructor(world: World, address: Address, body: ReadableStream<Uint8Array>, after: number, over: (isEnd: boolean) => void) {
    this.#world = world;
    this.#address = address;
    this.#last = after;
    this.#over = over;
    this.#beat = world.now();
    void this.#open(body);
    if (address.isWatched) void this.#live();
  }

  /** The next events; null after the last one. Throws what cut the stream off where it cannot be continued. */
  async next(): Promise<Uint8Array | null> {
    while (!this.#isOver) {
      let cut: unknown;
      try {
        const { done, value } = await this.#read();
        this.#showLife(); // a hidden tab has slow timers, but hears at once what comes
        const events = this.#take(value ?? NOTHING, done);
        if (events.length) return events;
        if (!done) continue;
        this.#quiet = this.#isQuiet() ? this.#quiet + 1 : 0;
      } catch (error) {
        cut = error;
      }
      if (this.#isOver) break;
      const hasSaidAll = this.#hasEnded || this.#quiet >= BELIEVED;
      const rest = hasSaidAll ? this.#finish(true, this.#framing.rest) : await this.#continued(cut);
      if (rest.length) return rest;
    }
    return null;
  }

  /** Connect again. Where a server closed in good order and keeps no stream, it has said all: `rest` is what it said last. */
  async #continued(cut: unknown): Promise<Uint8Array> {
    const { rest } = this.#framing;
    try {
      await this.#reconnect(cut);
      return NOTHING;
    } catch (error) {
      if (!(error instanceof Gone)) throw this.#finish(false, error);
      if (cut !== undefined) throw this.#finish(true, cut);
      return this.#finish(true, rest);
    }
  }

  /** Whether a connection that was closed now has brought nothing that the one before had not. */
  #isQuiet(): boolean {
    const { length } = this.#framing.rest;
    const isQuiet = !this.#isNew && length === this.#held;
    this.#isNew = false;
    this.#held = length;
    return isQuiet;
  }

  /** The reader has enough. Tells the proxy to stop the model, unless the answer has ended anyway. */
  stop(reason?: unknown): void {
    if (this.#isOver) return;
    this.#finish(true, null);
    this.#connection.abort(reason);
    this.#reader.cancel(reason).catch(() => {});
    if (!this.#hasEnded) void stopModel(this.#world, this.#address);
  }

  #finish<Last>(isEnd: boolean, last: Last): Last {
    this.#watch.abort();
    this.#isOver = true;
    this.#tell(isEnd);
    return last;
  }

  /** Give a sign of life now and then, for as long as the answer comes. */
  async #live(): Promise<void> {
    while (!this.#life.signal.aborted) {
      await this.#world.sleep(BEAT, this.#life.signal);
      this.#showLife();
    }
  }

  #showLife(): void {
    const now = this.#world.now();
    if (!this.#address.isWatched || this.#life.signal.aborted || now - this.#beat < BEAT) return;
    this.#beat = now;
    const sent = this.#address.init("POST").then((init) => this.#world.fetch(this.#address.url, init));
    sent.then((answer) => answer.body?.cancel()).catch(() => {}); // the next one may get through
  }

  #tell(isEnd: boolean): void {
    this.#life.abort();
    if (!this.#isTold) this.#over(isEnd);
    this.#isTold = true;
  }

  async #read(): Promise<ReadableStreamReadResult<Uint8Array>> {
    this.#reads++;
    this.#isWaiting = true;
    try {
      const found = await this.#reader.read();
      if (!this.#isDead) return found;
    } finally {
      this.#isWaiting = false;
    }
    throw new TypeError("The connection has been silent for too long.");
  }

  /** Read from `body` from now on. A read that waits for all of a span of `idle` is of a dead connection. */
  async #open(body: ReadableStream<Uint8Array>): Promise<void> {
    const reader = (this.#reader = body.getReader());
    const watch = (this.#watch = new AbortController());
    this.#isDead = false;
    this.#framing = new Framing();
    while (!watch.signal.aborted && (this.#isWaiting || !this.#hasEnded)) {
      const reads = this.#reads;
      await this.#world.sleep(this.#world.idle, watch.signal);
      if (!watch.signal.aborted && this.#isWaiting && this.#reads === reads) {
        this.#isDead = true;
        watch.abort();
        reader.cancel().catch(() => {});
      }
    }
  }

  #take(piece: Uint8Array, isEnd: boolean): Uint8Array {
    const kept = this.#framing.push(piece, isEnd).filter((event) => {
      const { id, isLast } = said(event);
      const number = id.startsWith(`${this.#address.id}.`) ? Number(id.slice(this.#address.id.length + 1)) : NaN;
      if (number <= this.#last) return false;
      if (number > 0) {
        this.#last = number;
        this.#attempt = this.#waited = 0;
      }
      this.#hasEnded ||= isLast;
      this.#isNew = true;
      return true;
    });
    // Whoever has the last event has all, also one who does not read on to the end of the connection.
    if (this.#hasEnded) this.#tell(true);
    return joined(kept);
  }

  /** Ask for what is missing until it comes. Throws Gone where there is no such stream, else `cut` when patience ends. */
  async #reconnect(cut: unknown): Promise<void> {
    this.#watch.abort();
    this.#reader.cancel().catch(() => {});
    let answer: Response | undefined;
    for (;;) {
      const wait = pause(this.#attempt++, this.#world.random, answer);
      this.#waited += wait;
      if (this.#waited > this.#world.patience) throw cut ?? new TypeError("The stream cannot be continued.");
      await this.#world.sleep(wait, this.#connection.signal);
      this.#connection.signal.throwIfAborted();
      try {
        answer = await this.#ask();
      } catch (error) {
        this.#connection.signal.throwIfAborted();
        cut ??= error;
        continue;
      }
      if (answer.ok && isStream(answer)) {
        void this.#open(answer.body!);
        return;
      }
      void answer.body?.cancel().catch(() => {});
      if (!answer.ok && !isPassing(answer)) throw new Gone();
    }
  }

  async #ask(): Promise<Response> {
    const { id, url, init } = this.#address;
    const options = await init("GET");
    const headers = new Headers(options.headers);
    if (this.#last) headers.set("last-event-id", `${id}.${this.#last}`);
    const watch = new AbortController();
    const connection = new AbortController();
    const leave = (): void => connection.abort(this.#connection.signal.reason);
    this.#connection.signal.addEventListener("abort", leave);
    try {
      const answer = this.#world.fetch(url, { ...options, headers, cache: "no-store", signal: connection.signal });
      const dead = this.#world.sleep(this.#world.idle, watch.signal).then(() => DEAD);
      const found = await Promise.race([answer, dead]);
      if (typeof found !== "symbol") return found;
      answer.then((late) => late.body?.cancel()).catch(() => {});
      connection.abort();
      throw new TypeError("The server does not answer.");
    } finally {
      watch.abort();
      this.#connection.signal.removeEventListener("abort", leave);
    }
  }
}

export function isStream(answer: Response): boolean {
  return answer.body !== null && /^text\/event-stream\b/i.test(answer.headers.get("content-type") ?? "");
}

/** Tell the proxy that nobody wants the rest. Tried a few times: the network may be what was given up on. */
export async function stopModel({ fetch, random, sleep }: World, { url, init }: Address): Promise<void> {
  for (let attempt = 0; attempt < STOPS; attempt++) {
    if (attempt) await sleep(pause(attempt, random));
    try {
      const answer = await fetch(url, { ...(await init("DELETE")), keepalive: true });
      void answer.body?.cancel().catch(() => {});
      if (!isPassing(answer)) return;
    } catch {
      // Tried again.
    }
  }
}
