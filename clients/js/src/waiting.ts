/** How long to wait before the next try. Time and chance come in as arguments, so that tests need neither. */

const FIRST = 500;
const LONGEST = 10_000;
const MOST_ASKED = 60_000;

/** Resolves after `ms`, or when `signal` is aborted, whichever comes first. */
export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

/** Waits by the clock; a browser that is on line again does not wait for the rest. */
export const sleep: Sleep = (ms, signal) =>
  new Promise((resolve) => {
    const listen = globalThis.addEventListener as typeof globalThis.addEventListener | undefined;
    const over = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", over);
      if (listen) removeEventListener("online", over);
      resolve();
    };
    const timer = setTimeout(over, ms);
    signal?.addEventListener("abort", over);
    listen?.("online", over);
    if (signal?.aborted) over();
  });

/** Milliseconds before try number `attempt` (from 0): any time up to one that doubles, and what `answer` asks for. */
export function pause(attempt: number, random: () => number, answer?: Response): number {
  const asked = Number(answer?.headers.get("retry-after")) * 1000;
  return Math.max(random() * Math.min(LONGEST, FIRST * 2 ** attempt), Math.min(MOST_ASKED, asked) || 0);
}

/** Whether an answer may be another one a moment later. Everything else that is no stream is a "no". */
export function isPassing(answer: Response): boolean {
  return answer.status >= 500 || [408, 425, 429].includes(answer.status);
}
