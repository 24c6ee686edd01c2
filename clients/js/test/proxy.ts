/** The proxy's half of a resumable stream, without a network: a `fetch` whose connections break when a test says so. */

import type { World } from "../src/index.ts";

export const BASE = "https://proxy.example/demo/v1";
export const ID = "01KABCDEFGHJKMNPQRSTVWXYZ0";
export const STREAM = `${BASE}/streams/${ID}`;

/** How a connection ends: as it should, broken, closed in good order, or never. */
export type End = "whole" | "broken" | "closed" | "silent";
/** What becomes of one call: bytes until it ends, or an answer of somebody else, or none at all. */
export interface Fate {
  bytes?: number;
  end?: End;
  answer?: () => Response;
  fails?: Error;
  /** So many events are sent again that the client has. */
  again?: number;
  piece?: () => number;
  gate?: Promise<void>;
}

export interface Asked {
  method: string;
  url: string;
  headers: Headers;
}

/** Numbers that look random, the same ones for a seed. */
export function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
export const stringOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
export const chat = (content: string): string => `data: {"choices":[{"delta":{"content":${JSON.stringify(content)}}}]}`;

/** `lines` of each event, numbered as the proxy numbers them. */
export const numbered = (events: string[], end = "\n"): string[] =>
  events.map((lines, index) => `${lines}${end}id: ${ID}.${index + 1}${end}${end}`);

/** A proxy that streams `events`; the next calls meet `fates`, later ones have the whole rest. */
export class Proxy {
  events: string[];
  fates: Fate[];
  asked: Asked[] = [];
  stopped = 0;
  cancelled = 0;
  pulls = 0;
  waits: number[] = [];
  time = Date.now();
  beats = 0;
  headers: Record<string, string> = { "content-type": "text/event-stream", "x-inference-id": ID, "x-resumable": "true" };
  #silent = false;
  #wake: (() => void)[] = [];

  constructor(events: string[], fates: Fate[] = []) {
    this.events = events;
    this.fates = fates;
  }

  /** What the library needs of the world: this proxy, no chance, and time that passes at once. */
  world(changes: Partial<World> = {}): World {
    return { fetch: this.fetch, random: () => 1, sleep: this.sleep, now: () => this.time, patience: 300_000, idle: 30_000, ...changes };
  }

  sleep = (ms: number, signal?: AbortSignal): Promise<void> => {
    if (ms !== 30_000) {
      if (ms !== 15_000) this.waits.push(ms);
      return ms === 15_000 ? new Promise(() => {}) : Promise.resolve();
    }
    return new Promise((resolve) => {
      signal?.addEventListener("abort", () => resolve());
      if (this.#silent) resolve();
      else this.#wake.push(resolve);
    });
  };

  fetch: typeof globalThis.fetch = async (input, init = {}) => {
    const headers = new Headers(init.headers ?? (input as Request).headers);
    const { method = "GET" } = { ...(input instanceof Request && { method: input.method }), ...init };
    this.asked.push({ method, url: input instanceof Request ? input.url : String(input), headers });
    if (method === "POST" && headers.get("x-resumable") === null) {
      this.asked.pop();
      this.beats++;
      return new Response("{}");
    }
    if (method === "DELETE") {
      this.stopped++;
      return new Response(null, { status: 204 });
    }
    const fate = this.fates.shift() ?? {};
    init.signal?.throwIfAborted();
    if (fate.gate) await raced(fate.gate, init.signal);
    if (fate.fails) throw fate.fails;
    if (fate.answer) return fate.answer();
    const after = Number(headers.get("last-event-id")?.split(".")[1] ?? 0);
    const first = Math.max(0, after - (fate.again ?? 0));
    return new Response(this.#body(bytesOf(this.events.slice(first).join("")), fate), { headers: this.headers });
  };

  #body(all: Uint8Array, { bytes = all.length, end = "whole", piece = () => 1000 }: Fate): ReadableStream<Uint8Array> {
    this.#silent = false;
    let at = 0;
    const until = end === "whole" ? all.length : Math.min(bytes, all.length);
    return new ReadableStream(
      {
        pull: (controller) => {
          this.pulls++;
          if (at < until) return controller.enqueue(all.slice(at, (at = Math.min(until, at + piece()))));
          if (end === "broken") return controller.error(new TypeError("terminated"));
          if (end !== "silent") return controller.close();
          this.#silent = true;
          this.#wake.splice(0).forEach((wake) => wake());
          return new Promise(() => {});
        },
        cancel: () => void this.cancelled++,
      },
      { highWaterMark: 0 },
    );
  }
}

function raced(gate: Promise<void>, signal?: AbortSignal | null): Promise<void> {
  const left = new Promise<never>((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  return Promise.race([gate, left]);
}

/** A tab's storage. */
export class Memory {
  kept = new Map<string, string>();
  getItem = (name: string): string | null => this.kept.get(name) ?? null;
  setItem = (name: string, value: string): void => void this.kept.set(name, value);
  removeItem = (name: string): void => void this.kept.delete(name);
}

export const QUESTION: RequestInit = {
  method: "POST",
  headers: { authorization: "Bearer opx-key", "content-type": "application/json" },
  body: JSON.stringify({ stream: true, messages: [{ role: "user", content: "Hello" }] }),
};
export const ASK = `${BASE}/chat/completions`;
