/** The conversation: what was asked and answered, as the model is told it and as one sees it. One answer at a time. */

import { byId, copyButton, element, markScrollers, say } from "./dom.js";
import { Figures, duration } from "./figures.js";
import { GrowingMarkdown } from "./markdown.js";
import { chat, chatPath } from "./proxy.js";
import { Trouble } from "./proxy.js";
import { troubleBox } from "./troubles.js";

const SLOW_SECONDS = 8;

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
    addEventListener("scroll", () => this.showJump(), { passive: true });
    addEventListener("resize", () => markScrollers(this.root));
    byId("jump").addEventListener("click", () => {
      this.follow(true);
      byId("question").focus({ preventScroll: true });
    });
  }

  get busy() {
    return this.stopping !== null;
  }

  clear() {
    this.leaving.abort();
    this.leaving = new AbortController();
    this.stop();
    this.turns = [];
    this.root.replaceChildren();
  }

  stop() {
    this.stopping?.abort();
  }

  ask(text) {
    const asked = element("article", { class: "asked" }, element("h2", { class: "unseen" }, "You"), element("p", {}, text));
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
      view.end(view.answer.text ? null : "The server sent an empty answer.");
      say("The answer is complete.");
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
    if (always) this.wasAtEnd = true;
    if (this.wasAtEnd) scrollTo({ top: document.documentElement.scrollHeight });
  }

  showJump() {
    const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
    const left = scrollHeight - clientHeight - scrollTop;
    this.wasAtEnd = left < 80;
    byId("jump").hidden = left < 200;
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
    this.node = element("article", { class: "answer writing" }, this.name, this.waiting, this.thoughts, this.body, this.figures.node);
    this.began = performance.now();
    this.clock = setInterval(() => this.showWait(), 500);
    this.showWait();
  }

  showWait() {
    const seconds = Math.floor((performance.now() - this.began) / 1000);
    const words = seconds < 1 ? "Asking …" : `${seconds < SLOW_SECONDS ? "Waiting for the first word" : "The server takes its time"} … ${duration(seconds)}`;
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
    if (!piece.content) return;
    this.stopWaiting();
    this.answer.add(piece.content);
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

/** The same request for a terminal. The key is named, not written. */
function curl(question) {
  const { model, messages, temperature } = question;
  const body = { ...(model && { model }), stream: true, ...(temperature !== null && { temperature }), messages };
  const data = JSON.stringify(body).replaceAll("'", "'\\''");
  return `curl -N '${location.origin}${chatPath(question)}' -H "Authorization: Bearer $OPENAI_API_KEY" -H 'Content-Type: application/json' -d '${data}'`;
}
