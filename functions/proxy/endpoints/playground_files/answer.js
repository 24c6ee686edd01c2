/** One answer: who gives it, what it says, what it took, what went wrong, and what can be done with it. */

import { copyButton, element, say } from "./dom.js";
import { Figures, duration } from "./figures.js";
import { GrowingMarkdown } from "./markdown.js";
import { troubleBox } from "./troubles.js";

const SLOW_SECONDS = 8;
/** Seconds without a word in the middle of an answer after which a clock shows that more is waited for. */
const SILENT_SECONDS = 3;
const LANGUAGES = ["curl", "Python", "Node"];
const ENDED = {
  __proto__: null, // a server may send any word, `constructor` too
  length: "Cut off: the answer had reached the most tokens that it may have.",
  content_filter: "Cut off by the server’s content filter.",
  tool_calls: "The model wants to call a tool. This page has none.",
  function_call: "The model wants to call a function. This page has none.",
};
const WHOLE = ["stop", "eos", "end_turn", "stop_sequence"];

/** What few visits need, which is loaded by then: the request as code, the chat as a file. */
export const copies = () => import("./copies.js");

/** Buttons that copy the request for what `question()` gives: for a terminal, and as programs. */
export function codeButtons(question) {
  const code = (language) => async () => (await copies()).codeFor[language](question());
  return element("span", { class: "code-buttons" }, "Copy as ", ...LANGUAGES.map((name) => copyButton(`Copy as ${name}`, code(name), name)));
}

export class AnswerView {
  /** `settings` are those that it is asked with, `signal` says that nobody wants its receipt, `onSpent` that it has cost more. */
  constructor({ server, model }, signal, onSpent) {
    this.source = { server, model };
    this.name = element("h2", { class: "by" }, [server, model].filter(Boolean).join(" · ") || "Answer");
    this.waiting = element("p", { class: "waiting" }, element("span", { class: "pulse", "aria-hidden": "true" }), element("span"));
    this.thoughts = element("details", { class: "thoughts", hidden: true }, element("summary", {}, "Thoughts"), element("p"));
    this.body = element("div", { class: "text" });
    this.answer = new GrowingMarkdown(this.body);
    this.figures = new Figures(signal, onSpent);
    this.node = element("article", { class: "answer writing" }, this.name, this.thoughts, this.body, this.waiting, this.figures.node);
    this.began = this.latest = performance.now();
    this.finish = null;
    this.failed = false;
    this.calls = new Map();
    this.clock = setInterval(() => this.showWait(), 500);
    this.showWait();
  }

  showWait() {
    const isSaying = this.answer.text !== "";
    const seconds = Math.floor((performance.now() - (isSaying ? this.latest : this.began)) / 1000);
    this.waiting.hidden = isSaying && seconds < SILENT_SECONDS;
    const words = isSaying ? `Waiting for more … ${duration(seconds)}` : seconds < 1 ? "Asking …" : `${seconds < SLOW_SECONDS ? "Waiting for the first word" : "The server takes its time"} … ${duration(seconds)}`;
    this.waiting.lastChild.textContent = navigator.onLine ? words : "No connection. The answer goes on when it is back.";
    if (seconds >= SLOW_SECONDS && !this.saidSlow) {
      this.saidSlow = true;
      say("The server takes its time. Still waiting.");
    }
  }

  answered(head) {
    this.figures.answered(head);
    this.name.textContent = [head.server, head.model].filter(Boolean).join(" · ") || this.name.textContent;
  }

  heard(piece) {
    this.figures.heard(piece);
    if (piece.reasoning) {
      this.thoughts.hidden = false;
      this.thoughts.lastChild.append(piece.reasoning);
    }
    piece.calls.forEach((call, place) => this.called(call, call?.index ?? place));
    this.finish = piece.finish || this.finish;
    this.latest = performance.now();
    if (piece.content) this.answer.add(piece.content);
    if (this.answer.text) this.waiting.hidden = true;
  }

  /** A part of the call of a tool: its name comes first, then its arguments, letter by letter. */
  called(call, place) {
    const { name, arguments: rest } = call?.function || {};
    const before = this.calls.get(place) || ["", ""]; // by its place, which a server may make as large as it likes
    this.calls.set(place, [before[0] + written(name), before[1] + written(rest)]);
  }

  /** The tools that the model wants to call: `get_weather({"city": "Paris"})`. */
  callsAsText() {
    return [...this.calls].sort(([one], [other]) => one - other).map(([, [name, rest]]) => `${name}(${rest})`);
  }

  /** The answer is over and whole, as far as its server says. */
  complete() {
    const note = this.note();
    this.end(note);
    if (!note) say("The answer is complete.");
  }

  /** What to say of an answer that ended for this `finish_reason`; null where it is whole. */
  note() {
    if (this.calls.size && (!this.finish || WHOLE.includes(this.finish))) return ENDED.tool_calls; // some servers say "stop"
    if (this.finish && !WHOLE.includes(this.finish)) return ENDED[this.finish] || `The server ended the answer: ${this.finish}.`;
    return this.answer.text ? null : "The server sent an empty answer.";
  }

  end(note) {
    this.settle();
    if (note) {
      this.ended = note;
      const calls = this.callsAsText().join("\n");
      this.body.after(element("p", { class: "ended" }, note), calls ? element("pre", { class: "calls" }, calls) : "");
      say(note);
    }
    this.figures.ended();
  }

  /** An answer of a page that was reloaded: nothing is known of what it took. */
  restore(text) {
    this.answer.add(text);
    this.settle();
  }

  settle() {
    clearInterval(this.clock);
    this.waiting.remove();
    this.answer.end();
    this.node.classList.remove("writing");
  }

  fail(trouble, actions) {
    this.end(null);
    this.failed = true; // what can be done about it stands in the box
    this.ended = trouble.message || trouble.code || "failed";
    this.body.after(troubleBox(trouble, actions));
  }

  /** What can be done with it, now that it is over: `question` is what was sent, `again` asks once more. */
  offer(question, again) {
    const named = () => ({ ...question, model: question.model || this.figures.head?.model || "" });
    const tools = element("div", { class: "tools" });
    if (this.answer.text) tools.append(copyButton("Copy answer", () => this.answer.text));
    if (!this.failed) tools.append(element("button", { type: "button", class: "plain small idle", onclick: again }, "Ask again"));
    tools.append(codeButtons(named));
    this.node.append(tools);
    copies().catch(() => null);
  }

  /** What is known of it, for a file. */
  record() {
    const { head, spent } = this.figures;
    return {
      content: this.answer.text,
      thoughts: this.thoughts.lastChild.textContent || undefined,
      tool_calls: this.calls.size ? this.callsAsText() : undefined,
      finish_reason: this.finish ?? undefined,
      ended: this.ended,
      server: head?.server ?? undefined,
      model: head?.model ?? undefined,
      inference_id: head?.id ?? undefined,
      input_tokens: spent.tokens?.[0],
      output_tokens: spent.tokens?.[1],
      cost: spent.cost ?? undefined,
      currency: spent.currency ?? undefined,
    };
  }
}

/** A part of a call as text. Some servers send arguments as the object that they are. */
function written(part) {
  return typeof part === "string" ? part : part ? JSON.stringify(part) : "";
}
