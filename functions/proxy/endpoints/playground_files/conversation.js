/** The conversation: what was asked and answered, as the model is told it and as one sees it. One answer at a time. */

import { byId, copyButton, element, markScrollers, say } from "./dom.js";
import { Figures, duration } from "./figures.js";
import { GrowingMarkdown } from "./markdown.js";
import { Trouble, chat, curl } from "./proxy.js";
import { troubleBox } from "./troubles.js";

const SLOW_SECONDS = 8;
/** Seconds without a word in the middle of an answer after which a clock shows that more is waited for. */
const SILENT_SECONDS = 3;
/** Pixels from the end of the page within which one is at its end. */
const AT_END = 8;
const ENDED = {
  length: "Cut off: the answer had reached the most tokens that it may have.",
  content_filter: "Cut off by the server’s content filter.",
  tool_calls: "The model wants to call a tool. This page has none.",
  function_call: "The model wants to call a function. This page has none.",
};
const WHOLE = ["stop", "eos", "end_turn", "stop_sequence"];

/** What to say of an answer that ended for this `finish_reason`; null where it is whole. */
function noteOf(finish, text) {
  if (finish && !WHOLE.includes(finish)) return ENDED[finish] || `The server ended the answer: ${finish}.`;
  return text ? null : "The server sent an empty answer.";
}

/** `settings()` gives server, model, system message, temperature, noCache; `newKey` asks for another key. */
export class Conversation {
  constructor({ settings, newKey, onBusy }) {
    this.settings = settings;
    this.newKey = newKey;
    this.onBusy = onBusy;
    this.root = byId("conversation");
    this.turns = [];
    this.stopping = null;
    this.leaving = new AbortController();
    this.following = true;
    this.top = this.height = 0;
    addEventListener("scroll", () => this.scrolled(), { passive: true });
    addEventListener("resize", () => markScrollers(this.root));
    byId("jump").addEventListener("click", () => {
      this.follow(true);
      byId("question").focus({ preventScroll: true });
    });
  }

  get busy() {
    return this.stopping !== null;
  }

  /** Begin anew. Returns what brings back the turns there were; null if there was none. */
  clear() {
    this.stop();
    const [turns, nodes] = [this.turns, [...this.root.childNodes]];
    this.turns = [];
    this.root.replaceChildren();
    return turns.length
      ? () => {
          this.turns = [...turns, ...this.turns];
          this.root.prepend(...nodes);
          this.follow(true);
        }
      : null;
  }

  /** Begin anew, and look for no receipt of what was there. */
  forget() {
    this.leaving.abort();
    this.leaving = new AbortController();
    this.clear();
  }

  stop() {
    this.stopping?.abort();
  }

  ask(text) {
    const asked = element("article", { class: "asked" }, element("h2", { class: "unseen" }, "You"), element("p", { dir: "auto" }, text));
    this.root.append(asked);
    return this.answer({ text, asked });
  }

  /** What the model is told: the turns so far that have an answer, and the question. */
  messages(turn, system) {
    const before = this.turns.slice(0, this.turns.indexOf(turn)).filter((each) => each.answer);
    return [
      ...(system ? [{ role: "system", content: system }] : []),
      ...before.flatMap((each) => [
        { role: "user", content: each.text },
        { role: "assistant", content: each.answer },
      ]),
      { role: "user", content: turn.text },
    ];
  }

  async answer(turn) {
    if (!this.turns.includes(turn)) this.turns.push(turn);
    turn.node?.remove();
    const settings = this.settings();
    const question = { ...settings, messages: this.messages(turn, settings.system) };
    const view = new AnswerView(settings, this.leaving.signal);
    turn.node = view.node;
    turn.asked.after(view.node);
    const stopping = new AbortController();
    this.stopping = stopping;
    this.onBusy(true);
    this.follow(true);
    const following = setInterval(() => this.follow(), 100);
    try {
      for await (const piece of chat(question, stopping.signal, (head) => view.answered(head))) view.heard(piece);
      const note = noteOf(view.finish, view.answer.text);
      view.end(note);
      if (!note) say("The answer is complete.");
    } catch (error) {
      if (error.name === "AbortError") view.end("Stopped.");
      else view.fail(error instanceof Trouble ? error : new Trouble(200, { code: "unreadable", message: String(error) }), {
        again: () => !this.busy && this.answer(turn),
        newKey: this.newKey,
      });
    } finally {
      clearInterval(following);
      if (this.stopping === stopping) this.stopping = null;
      turn.answer = view.answer.text;
      view.node.append(view.tools(question));
      this.onBusy(this.busy);
      this.follow();
      this.showJump();
    }
  }

  /** Stay at the end of the page while it grows, unless one has scrolled away from there. */
  follow(always = false) {
    if (always) this.following = true;
    if (this.following) scrollTo({ top: document.documentElement.scrollHeight });
  }

  /** Whoever scrolls up, however little, wants to read there; whoever comes to the end wants to see it grow. */
  scrolled() {
    const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
    const shrunk = scrollHeight < this.height; // then the browser itself has scrolled up
    if (scrollTop < this.top - 0.5 && !shrunk) this.following = false;
    else if (scrollHeight - clientHeight - scrollTop < AT_END) this.following = true;
    [this.top, this.height] = [scrollTop, scrollHeight];
    this.showJump();
  }

  showJump() {
    const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
    byId("jump").hidden = scrollHeight - clientHeight - scrollTop < 200;
  }
}

/** One answer: who gives it, what it says, what it took, what went wrong. */
class AnswerView {
  constructor({ server, model }, signal) {
    this.name = element("h2", { class: "by" }, [server, model].filter(Boolean).join(" · ") || "Answer");
    this.waiting = element("p", { class: "waiting" }, element("span", { class: "pulse", "aria-hidden": "true" }), element("span"));
    this.thoughts = element("details", { class: "thoughts", hidden: true }, element("summary", {}, "Thoughts"), element("p"));
    this.body = element("div", { class: "text" });
    this.answer = new GrowingMarkdown(this.body);
    this.figures = new Figures(signal);
    this.node = element("article", { class: "answer writing" }, this.name, this.thoughts, this.body, this.waiting, this.figures.node);
    this.began = this.latest = performance.now();
    this.finish = null;
    this.clock = setInterval(() => this.showWait(), 500);
    this.showWait();
  }

  showWait() {
    const isSaying = this.answer.text !== "";
    const seconds = Math.floor((performance.now() - (isSaying ? this.latest : this.began)) / 1000);
    this.waiting.hidden = isSaying && seconds < SILENT_SECONDS;
    const words = isSaying ? `Waiting for more … ${duration(seconds)}` : seconds < 1 ? "Asking …" : `${seconds < SLOW_SECONDS ? "Waiting for the first word" : "The server takes its time"} … ${duration(seconds)}`;
    this.waiting.lastChild.textContent = words;
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
    this.finish = piece.finish || this.finish;
    this.latest = performance.now();
    if (piece.content) this.answer.add(piece.content);
    if (this.answer.text) this.waiting.hidden = true;
  }

  stopWaiting() {
    clearInterval(this.clock);
    this.waiting.remove();
  }

  end(note) {
    this.stopWaiting();
    this.answer.end();
    this.node.classList.remove("writing");
    if (note) {
      this.body.after(element("p", { class: "ended" }, note));
      say(note);
    }
    this.figures.ended();
  }

  fail(trouble, actions) {
    this.end(null);
    this.body.after(troubleBox(trouble, actions));
  }

  tools(question) {
    const tools = element("div", { class: "tools" });
    if (this.answer.text) tools.append(copyButton("Copy answer", () => this.answer.text));
    tools.append(copyButton("Copy as curl", () => curl(question)));
    return tools;
  }
}
