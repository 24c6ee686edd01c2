/**
 * Answers that outlive a broken connection, and chats that outlive a reload of the page.
 *
 * While an answer comes, this tab's `sessionStorage` has its address, what was asked and of whom, and the turns before it.
 * The chats of the tab are in there, too, sealed with the key that they were asked with.
 * Its one rule: the key is never in there, so a reload asks for it, and whoever gives another one gets nothing.
 */

import { resumable, unfinished } from "./vendor/resumable-fetch/resumable-fetch.js";

const NAME = "asked";
const CHATS = "chats";
/** Characters of all chats together that a reload brings back, the latest of them. */
const MOST_OF_ALL = 1_000_000;
const NONCE_BYTES = 12;

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

let latest = 0;

/** Keep `chats`, which JSON has a form for, for who comes back with `key`. What is kept last holds. */
export async function keep(chats, key) {
  const number = ++latest;
  try {
    const sealed = chats.length ? await seal(fitting(chats), key) : "";
    if (number !== latest) return;
    if (sealed) sessionStorage.setItem(CHATS, sealed);
    else sessionStorage.removeItem(CHATS);
  } catch {
    // Too much for this browser, or no secure context: a reload brings back what was kept before.
  }
}

/** The chats that were kept; none for another key, which ends them. */
export async function kept(key) {
  try {
    return JSON.parse(await unseal(sessionStorage.getItem(CHATS), key));
  } catch {
    keep([], key);
    return [];
  }
}

/** The latest chats, as text, as many as there is room for. */
function fitting(chats) {
  const texts = [];
  let left = MOST_OF_ALL;
  for (const text of chats.map((each) => JSON.stringify(each)).toReversed()) {
    left -= text.length;
    if (left < 0) break;
    texts.unshift(text);
  }
  return `[${texts}]`;
}

async function seal(text, key) {
  const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await lockOf(key), new TextEncoder().encode(text));
  const bytes = [...iv, ...new Uint8Array(sealed)];
  return btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
}

async function unseal(sealed, key) {
  const bytes = Uint8Array.from(atob(sealed), (character) => character.charCodeAt(0));
  const [iv, rest] = [bytes.subarray(0, NONCE_BYTES), bytes.subarray(NONCE_BYTES)];
  return new TextDecoder().decode(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, await lockOf(key), rest));
}

/** What seals the chats of who has `key`. Access tokens change with each sign-in, and their user stays. */
async function lockOf(key) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`chats\n${userOf(key) || key}`));
  return crypto.subtle.importKey("raw", digest, "AES-GCM", false, ["encrypt", "decrypt"]);
}

/** The user of an access token; "" for a key. */
function userOf(key) {
  try {
    const { iss, sub } = JSON.parse(atob(key.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return iss && sub ? `${iss}\n${sub}` : "";
  } catch {
    return "";
  }
}

/** Forget all: somebody else may come. */
export function forgetAll() {
  latest += 1;
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
