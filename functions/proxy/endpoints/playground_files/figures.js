/**
 * What an answer took: times as this browser saw them, tokens as the server reported them, and the cost from the
 * receipt, which the ledger writes a few seconds after the answer.
 */

import { spend } from "./allowance.js";
import { copyButton, element } from "./dom.js";
import { receipt } from "./proxy.js";

/** Seconds between looks for a receipt. An answer that was stopped goes on at its server, so its receipt may be late. */
const PAUSES = [3, 2, 3, 5, 8, 13, 20];
/** Seconds within which an answer has no speed: something on the way has collected it. */
const AT_ONCE = 0.05;

const number = new Intl.NumberFormat("en");

/** Seconds in words as short as they can be: `312 ms`, `1.4 s`, `3 min 20 s`, `5 h 12 min`, `2 days`. */
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 && !Number.isInteger(seconds) ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (hours >= 48) return `${Math.round(hours / 24)} days`;
  if (hours) return `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  return `${minutes} min${Math.round(seconds % 60) ? ` ${Math.round(seconds % 60)} s` : ""}`;
}

/** A decimal as the ledger writes it, as money: `$0.00123`. */
export function money(decimal, currency) {
  const amount = Number(decimal);
  const style = { style: "currency", currency: currency || "USD", maximumSignificantDigits: 3 };
  return new Intl.NumberFormat("en", amount ? style : { ...style, maximumSignificantDigits: 1 }).format(amount);
}

const inAndOut = ([input, output]) => `${number.format(input)} in, ${number.format(output)} out`;

/** What all of these answers took, in a sentence: `3 answers · 3,600 in, 102 out · $0.0037, 1 not counted yet`. */
export function sumOf(allSpent) {
  const known = allSpent.filter(({ tokens }) => tokens);
  const tokens = [0, 1].map((side) => known.reduce((sum, each) => sum + each.tokens[side], 0));
  const costs = new Map();
  for (const { cost, currency } of allSpent) if (cost !== null) costs.set(currency, (costs.get(currency) || 0) + Number(cost));
  const open = { counting: "not counted yet", unpriced: "without a price", unknown: "not known" };
  const left = Object.entries(open).map(([state, words]) => [allSpent.filter((each) => each.state === state).length, words]);
  return [
    `${number.format(allSpent.length)} ${allSpent.length === 1 ? "answer" : "answers"}`,
    known.length ? `${known.length < allSpent.length ? "≥ " : ""}${inAndOut(tokens)}` : "",
    [...[...costs].map(([currency, cost]) => money(cost, currency)), ...left.filter(([count]) => count).map(([count, words]) => `${count} ${words}`)].join(", "),
  ]
    .filter(Boolean)
    .join(" · ");
}

const CACHE = { __proto__: null, HIT: "hit", MISS: "miss", BYPASS: "not used", REFRESH: "renewed" };

/** The row of figures beside one answer, and the details that open below it. */
export class Figures {
  /** `onSpent` is called whenever more is known of `spent`. */
  constructor(signal, onSpent) {
    this.signal = signal;
    this.onSpent = onSpent;
    this.spent = { tokens: null, cost: null, currency: null, state: "none" };
    this.began = performance.now();
    this.first = null;
    this.latest = null;
    this.pieces = 0;
    this.usage = null;
    this.head = null;
    this.values = new Map();
    this.row = element("dl", { class: "figures" });
    this.details = element("dl", { class: "details" });
    this.disclosure = element("details", { class: "more" }, element("summary", {}, "Details"), this.details);
    this.node = element("div", { class: "took", hidden: true }, this.row, this.disclosure);
    for (const name of ["First token", "Speed", "Tokens", "Cost", "Cache", "Attempts"]) this.set(name, "…");
  }

  set(name, ...content) {
    if (!this.values.has(name)) {
      const value = element("dd");
      this.row.append(element("div", {}, element("dt", {}, name), value));
      this.values.set(name, value);
    }
    this.values.get(name).replaceChildren(...content);
  }

  answered(head) {
    this.head = head;
    this.set("Attempts", head.attempts || "1");
    const cache = CACHE[head.cache] || (head.cache || "—").toLowerCase();
    this.set("Cache", head.cacheSaved ? `${cache}, saved ${head.cacheSaved}` : cache);
  }

  heard({ content, reasoning, usage }) {
    const counted = [usage?.prompt_tokens, usage?.completion_tokens];
    if (counted.some(Number.isFinite)) this.usage = counted.map((tokens) => (Number.isFinite(tokens) ? tokens : 0));
    if (!content && !reasoning) return;
    this.latest = performance.now();
    this.pieces += 1;
    if (this.first === null) {
      this.first = this.latest;
      this.node.hidden = false;
      this.set("First token", duration((this.first - this.began) / 1000));
    }
    this.showSpeed();
  }

  showSpeed() {
    const seconds = (this.latest - this.first) / 1000;
    const tokens = this.usage?.[1] ?? this.pieces;
    if (this.pieces < 2) this.set("Speed", "…");
    else if (seconds < AT_ONCE) this.set("Speed", "at once");
    else this.set("Speed", `${this.usage ? "" : "≈ "}${number.format(Math.round((tokens - 1) / seconds))} tokens/s`);
    if (!this.usage) this.set("Tokens", `≈ ${number.format(this.pieces)}`);
  }

  /** The answer is over, whole or not: settle what is known and look for the receipt. */
  async ended() {
    this.node.hidden = this.head === null;
    if (this.head === null) return;
    this.spent.state = "counting";
    const took = (performance.now() - this.began) / 1000;
    if (this.first === null) this.set("First token", "—");
    if (this.pieces < 2) this.set("Speed", "—");
    else this.showSpeed();
    this.showTokens(this.usage);
    this.showDetails(took);
    this.set("Cost", element("span", { class: "pending" }, "counting …"));
    await this.showCost();
  }

  showTokens(pair) {
    if (pair) this.set("Tokens", inAndOut(pair));
    else this.set("Tokens", this.pieces ? `≈ ${number.format(this.pieces)} out` : "—");
    this.spent.tokens = pair;
    this.onSpent();
  }

  async showCost() {
    try {
      for (const pause of PAUSES) {
        await rest(pause, this.signal);
        const found = await receipt(this.head.id, this.signal);
        if (found) return this.showReceipt(found);
      }
      const again = element("button", { type: "button", class: "plain small" }, "Look again");
      again.addEventListener("click", () => {
        this.set("Cost", element("span", { class: "pending" }, "counting …"));
        this.showCost();
      });
      this.spent.state = "unknown";
      this.onSpent();
      this.set("Cost", again);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.set("Cost", "not known");
      this.spent.state = "unknown";
      this.onSpent();
    }
  }

  showReceipt(found) {
    const priced = found.cost !== null && found.cost !== undefined && found.pricing !== "unpriced";
    this.set("Cost", priced ? money(found.cost, found.currency) : "no price");
    if (priced && (found.currency || "USD") === "USD") spend(Number(found.cost));
    Object.assign(this.spent, priced ? { cost: found.cost, currency: found.currency || "USD", state: "priced" } : { state: "unpriced" });
    const { input_tokens: input, output_tokens: output } = found.usage || {};
    if (!this.usage && Number.isInteger(output)) this.showTokens([input || 0, output]);
    this.onSpent();
    const saved = found.cost_components?.saved;
    if (Number(saved)) this.set("Cache", `hit, saved ${money(saved, found.currency)}`);
    const cached = found.usage?.cache_read_input_tokens;
    const reasoning = found.usage?.reasoning_output_tokens;
    this.detail("Cached input", cached ? `${number.format(cached)} tokens` : null);
    this.detail("Reasoning", reasoning ? `${number.format(reasoning)} tokens` : null);
    this.detail("Price", found.pricing && found.price_version ? `${found.pricing}, version ${found.price_version}` : found.pricing);
    this.detail("Usage", found.usage_source);
  }

  showDetails(took) {
    const { server, model, cacheReason, age, timing, requestId, upstreamRequestId, id } = this.head;
    const [upstream, proxy] = ["upstream", "proxy"].map((name) => timing?.match(new RegExp(`${name};dur=([\\d.]+)`))?.[1]);
    this.detail("Served by", [server, model].filter(Boolean).join(" · "));
    this.detail("Whole answer", duration(took));
    this.detail("Before it began", upstream && proxy ? `server ${duration(upstream / 1000)}, proxy ${duration(proxy / 1000)}` : null);
    this.detail("Cache", [cacheReason, age && `${duration(Number(age))} old`].filter(Boolean).join(", "));
    this.detail("Inference", id, true);
    if (requestId !== id) this.detail("Request", requestId, true);
    this.detail("Server’s request", upstreamRequestId, true);
  }

  detail(name, value, copied = false) {
    if (!value) return;
    const shown = copied ? [element("code", {}, value), " ", copyButton("Copy", () => value)] : [value];
    this.details.append(element("div", {}, element("dt", {}, name), element("dd", {}, ...shown)));
  }
}

function rest(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new DOMException("stopped", "AbortError"));
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, seconds * 1000);
  });
}
