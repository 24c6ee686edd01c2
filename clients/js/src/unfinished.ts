/** Which streams this tab has begun and not ended, in its `sessionStorage`: addresses and times, never a key or a text. */

/** A stream that can be continued. `after` is the number of its last event that is not wanted again. */
export interface Unfinished {
  id: string;
  url: string;
  /** When it began, in milliseconds since 1970. */
  at: number;
  after?: number;
}

/** The part of `Storage` that is used. */
export type Store = Pick<Storage, "getItem" | "setItem" | "removeItem">;

const NAME = "resumable-fetch";
/** The proxy keeps no stream so long. */
const OLD = 3_600_000;
const MOST = 20;

/** The tab's own storage; null where there is none, or where a page may not use it. */
export function tabStorage(): Store | null {
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null;
  }
}

/** The streams of this tab that have not ended, the latest first: after a reload, those that it broke off. */
export function unfinished(store: Store | null = tabStorage(), now: number = Date.now()): Unfinished[] {
  try {
    const list: unknown = JSON.parse(store?.getItem(NAME) ?? "[]");
    return Array.isArray(list) ? list.filter((each) => isOne(each) && now - each.at < OLD) : [];
  } catch {
    return [];
  }
}

function isOne(value: unknown): value is Unfinished {
  const { id, url, at } = (value ?? {}) as Record<string, unknown>;
  return typeof id === "string" && typeof url === "string" && typeof at === "number";
}

/** Take the stream `id` from the list, and put `added` before the others. */
export function note(store: Store | null, id: string, now: number, added?: Unfinished): void {
  const others = unfinished(store, now).filter((each) => each.id !== id);
  const list = added ? [added, ...others].slice(0, MOST) : others;
  try {
    if (list.length) store?.setItem(NAME, JSON.stringify(list));
    else store?.removeItem(NAME);
  } catch {
    // A full storage, or one that a page may not use: the stream goes on, and a reload will not find it.
  }
}
