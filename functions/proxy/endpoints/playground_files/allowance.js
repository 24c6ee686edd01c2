/** What a key, user or team has left, as the headers of each answer say it: of a budget, and of the current minute. */

import { byId } from "./dom.js";

const number = new Intl.NumberFormat("en");
const LIMITS = ["requests", "tokens"];
let left = { budget: null, minute: [] };
let nextMinute = null;

/** An answer has come: `headers` say what there was before it. Those without limits say nothing. */
export function showAllowance(headers) {
  const budget = Number.parseFloat(headers.get("x-budget-remaining-usd"));
  const minute = LIMITS.map((name) => [name, ...["remaining", "limit"].map((what) => Number.parseInt(headers.get(`x-ratelimit-${what}-${name}`), 10))]);
  const told = minute.filter(([, remaining, limit]) => Number.isFinite(remaining) && Number.isFinite(limit));
  if (Number.isFinite(budget)) left.budget = budget;
  if (told.length) {
    left.minute = told;
    clearTimeout(nextMinute);
    const resets = LIMITS.map((name) => Number.parseFloat(headers.get(`x-ratelimit-reset-${name}`))).filter(Number.isFinite);
    nextMinute = setTimeout(newMinute, Math.max(1, ...resets) * 1000);
  }
  if (told.length || Number.isFinite(budget)) show();
}

/** An answer has cost `amount` USD, which the headers before it could not know. */
export function spend(amount) {
  if (left.budget === null || !Number.isFinite(amount)) return;
  left.budget = Math.max(0, left.budget - amount);
  show();
}

/** Somebody else has come, of whom nothing is known yet. */
export function forgetAllowance() {
  left = { budget: null, minute: [] };
  clearTimeout(nextMinute);
  show();
}

/** The minute is over, and nothing of the new one has been used from here. */
function newMinute() {
  left.minute = left.minute.map(([name, , limit]) => [name, limit, limit]);
  show();
}

function show() {
  const minute = left.minute.map(([name, remaining, limit]) => `${number.format(remaining)} of ${number.format(limit)} ${name}`);
  const parts = [
    left.budget === null ? "" : `$${left.budget.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: left.budget < 1 ? 4 : 2 })}`,
    minute.length ? `${minute.join(" and ")} this minute` : "",
  ].filter(Boolean);
  byId("allowance").textContent = parts.length ? `Left: ${parts.join(" · ")}` : "";
  byId("allowance").hidden = !parts.length;
}
