/** Server-sent events as bytes: where a whole one ends, and what it says of itself. Bytes are passed on as they came. */

const LF = 10;
const CR = 13;
const decoder = new TextDecoder();

/** Cuts pieces of a connection into whole events. `rest` is the beginning of the one that has not ended. */
export class Framing {
  rest: Uint8Array = new Uint8Array(0);
  #seen = 0;
  #line = 0;

  /** The events that `piece` has made whole, each with the blank line that ends it. `isEnd`: no more comes after it. */
  push(piece: Uint8Array, isEnd: boolean): Uint8Array[] {
    const bytes = joined([this.rest, piece]);
    const events: Uint8Array[] = [];
    let start = 0;
    let line = this.#line;
    let at = this.#seen;
    for (; at < bytes.length; at++) {
      const end = at;
      if (bytes[at] === CR) {
        // A line feed may follow, and would belong to it.
        if (at + 1 === bytes.length && !(isEnd && bytes[at - 1] === CR)) break;
        if (bytes[at + 1] === LF) at++;
      } else if (bytes[at] !== LF) continue;
      if (end === line) {
        events.push(bytes.subarray(start, at + 1));
        start = at + 1;
      }
      line = at + 1;
    }
    this.rest = bytes.subarray(start);
    this.#line = line - start;
    this.#seen = at - start;
    return events;
  }
}

/** One array of several, without a copy where there is but one. */
export function joined(parts: Uint8Array[]): Uint8Array {
  const some = parts.filter((part) => part.length);
  if (some.length === 1) return some[0]!;
  const all = new Uint8Array(some.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of some) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** The last event of a chat or completion is `[DONE]`; the Responses and the Messages API name theirs. */
const LAST = /^(?:data: ?\[DONE\]|event: ?(?:response\.(?:completed|incomplete)|message_stop|error))\s*$/;

/** The id of an event, of which the last one counts, and whether it is the last event of an answer. */
export function said(event: Uint8Array): { id: string; isLast: boolean } {
  // Not by `^` and `$`: U+2028, which a text may hold as it is, ends a line for them and none of an event.
  const lines = decoder.decode(event).split(/[\r\n]/);
  const id = lines.filter((line) => line.startsWith("id:")).at(-1) ?? "";
  return { id: id.replace(/^id: ?/, ""), isLast: lines.some((line) => LAST.test(line)) };
}
