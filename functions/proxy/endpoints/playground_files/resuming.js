/**
 * Answers that outlive a broken connection and a reload of the page.
 *
 * While an answer comes, this tab's `sessionStorage` has its address, what was asked and of whom, and the turns before it;
 * nothing of it afterwards.
 * Its one rule: the key is never in there, so a reload asks for it, and whoever gives another one gets nothing.
 */

import { resumable, unfinished } from "./vendor/resumable-fetch/resumable-fetch.js";

const NAME = "asked";

/** `fetch` for chats: a stream that is cut goes on, and one that is stopped stops its model. */
export const streaming = resumable();

/** Answers that were coming when the page was reloaded, the latest last, each with what `remember` was told of it. */
export function brokenOff() {
  const asked = read();
  const left = unfinished().filter(({ id }) => asked[id]);
  write(Object.fromEntries(left.map(({ id }) => [id, asked[id]])));
  return left.map(({ id, url }) => ({ id, url, ...asked[id] })).reverse();
}

/** Remember what the answer `id` is about, `{text, server, model, before}`, for as long as it comes. */
export function remember(id, about) {
  write({ ...read(), [id]: about });
}

/** The answer `id` is over. */
export function forget(id) {
  const { [id]: _, ...others } = read();
  write(others);
}

/** Forget all: somebody else may come. */
export function forgetAll() {
  try {
    sessionStorage.clear();
  } catch {
    // Where nothing can be kept, nothing was.
  }
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME)) || {};
  } catch {
    return {};
  }
}

function write(asked) {
  try {
    if (Object.keys(asked).length) sessionStorage.setItem(NAME, JSON.stringify(asked));
    else sessionStorage.removeItem(NAME);
  } catch {
    // A question too long to be kept: a reload does not find its answer.
  }
}
