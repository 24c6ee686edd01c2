/** A conversation: what was asked and answered, as the model is told it and as one sees it. One answer at a time. */

import { AnswerView } from "./answer.js";
import { byId, element, markScrollers, say } from "./dom.js";
import { sumOf } from "./figures.js";
import { Trouble, chat } from "./proxy.js";
import { QuestionView } from "./question.js";
import { forget, remember } from "./resuming.js";

/** Characters of earlier turns, the latest of them, that a reload in the middle of an answer brings back. */
const MOST_KEPT = 200_000;
/** Pixels from the end of the page within which one is at its end. */
const AT_END = 8;

/** Whoever reads: whether they are taken along while the page grows. */
const reader = {
  following: true,
  top: 0,
  height: 0,

  /** Stay at the end of the page while it grows, unless one has scrolled away from there. */
  follow(always = false) {
    if (always) this.following = true;
    if (this.following) scrollTo({ top: document.documentElement.scrollHeight });
  },

  /** Whoever scrolls up, however little, wants to read there; whoever comes to the end wants to see it grow. */
  scrolled() {
    const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
    const shrunk = scrollHeight < this.height; // then the browser itself has scrolled up
    if (scrollTop < this.top - 0.5 && !shrunk) this.following = false;
    else if (scrollHeight - clientHeight - scrollTop < AT_END) this.following = true;
    [this.top, this.height] = [scrollTop, scrollHeight];
    this.showJump();
  },

  showJump() {
    const { scrollHeight, clientHeight, scrollTop } = document.documentElement;
    byId("jump").hidden = scrollHeight - clientHeight - scrollTop < 200;
  },
};
addEventListener("scroll", () => reader.scrolled(), { passive: true });
addEventListener("resize", () => markScrollers(byId("conversation")));
byId("jump").addEventListener("click", () => {
  reader.follow(true);
  byId("question").focus({ preventScroll: true });
});

/** `settings()` gives how to ask; `newKey` asks for another key; `onBusy` is called when an answer begins or ends. */
export class Conversation {
  constructor({ settings, newKey, onBusy }) {
    this.settings = settings;
    this.newKey = newKey;
    this.onBusy = onBusy;
    this.turns = [];
    this.spent = [];
    this.stopping = null;
    this.leaving = new AbortController();
    this.node = element("div", { class: "turns" });
    this.sum = element("span");
    this.total = element("div", { class: "sum", hidden: true }, this.sum, ...["Markdown", "JSON"].map((kind) => this.saveButton(kind)));
    this.root = element("div", {}, this.node, this.total);
    byId("conversation").append(this.root);
  }

  get busy() {
    return this.stopping !== null;
  }

  /** What it is about: the beginning of what was asked first. */
  get title() {
    const { text } = this.turns[0] || {};
    return (text || "A picture").replace(/\s+/g, " ").slice(0, 60);
  }

  /** Let it be seen, or not: it goes on either way. */
  show(seen) {
    this.root.hidden = !seen;
    if (seen) reader.follow(true);
    reader.showJump();
  }

  /** Stop, look for no receipt, and leave the page. */
  forget() {
    this.stop();
    this.leaving.abort();
    this.root.remove();
  }

  stop() {
    this.stopping?.abort();
  }

  /** `begun` is the answer of a page that was reloaded: `{head, pieces, stopping, server, model}`. Nothing is asked for it. */
  ask(text, pictures = [], versions = null, begun = null) {
    return this.answer(this.add(text, pictures, versions, begun));
  }

  add(text, pictures, versions, begun) {
    const turn = { text, pictures, versions, begun, answer: "", view: null, node: element("div", { class: "turn" }) };
    turn.asked = new QuestionView(
      turn,
      (changed) => this.anew(turn, changed),
      (number) => this.switch(turn, number),
    );
    this.turns.push(turn);
    turn.node.append(turn.asked.node);
    this.node.append(turn.node);
    return turn;
  }

  /** Show what a page that was reloaded had said before, as `before` gave it: without figures, which went with that page. */
  restore(turns) {
    for (const { text, answer, server, model } of turns) {
      const turn = this.add(text, [], null, null);
      const settings = { ...this.settings(), server, model };
      turn.answer = answer;
      turn.view = new AnswerView(settings, this.leaving.signal, () => {});
      turn.view.restore(answer);
      turn.node.append(turn.view.node);
      turn.view.offer({ ...settings, messages: this.messages(turn, settings.system) }, () => this.anew(turn));
    }
  }

  /** The turns before `turn` that have an answer, `{text, answer, server, model}`: the latest that are short enough to be kept. */
  before(turn) {
    const kept = [];
    let left = MOST_KEPT;
    for (const { text, answer, view } of this.answered(turn).reverse()) {
      left -= text.length + answer.length;
      if (left < 0) break;
      kept.unshift({ text: text || "A picture", answer, ...view.source });
    }
    return kept;
  }

  /** What a reload brings back of it: the turns that have an answer, and the id of the answer that is coming. */
  kept() {
    return { turns: this.before(null), answering: this.busy ? this.turns.at(-1).view?.figures.head?.id : undefined };
  }

  /** The turns before `turn` that have an answer; all of them for null. */
  answered(turn) {
    return this.turns.slice(0, turn ? this.turns.indexOf(turn) : undefined).filter((each) => each.answer);
  }

  /** Ask `turn` once more, as `text`. What it was, and what came after it, stays as another version. */
  anew(turn, text = turn.text) {
    if (this.busy) return null;
    const versions = (turn.versions ??= { tails: [], shown: 0 });
    versions.tails[versions.shown] = this.cut(this.turns.indexOf(turn));
    versions.shown = versions.tails.push([]) - 1;
    return this.ask(text, turn.pictures, versions);
  }

  /** Show another version of `turn`, with what came after that. */
  switch(turn, number) {
    const { versions } = turn;
    const at = this.turns.indexOf(turn);
    versions.tails[versions.shown] = this.cut(at);
    versions.shown = number;
    this.turns.push(...versions.tails[number]);
    this.node.append(...versions.tails[number].map((each) => each.node));
    this.turns[at].asked.showVersions(versions);
    this.turns[at].asked.edit.focus({ preventScroll: true });
    say(`Version ${number + 1} of ${versions.tails.length}.`);
  }

  /** Take the turns from `at` on away. */
  cut(at) {
    const tail = this.turns.splice(at);
    for (const { node } of tail) node.remove();
    return tail;
  }

  /** What the model is told: the turns so far that have an answer, and the question. */
  messages(turn, system) {
    return [
      ...(system ? [{ role: "system", content: system }] : []),
      ...this.answered(turn).flatMap((each) => [
        { role: "user", content: contentOf(each) },
        { role: "assistant", content: each.answer },
      ]),
      { role: "user", content: contentOf(turn) },
    ];
  }

  async answer(turn) {
    turn.view?.node.remove();
    const { begun } = turn;
    turn.begun = null;
    const settings = { ...this.settings(), ...(begun && { server: begun.server, model: begun.model }) };
    const question = { ...settings, messages: this.messages(turn, settings.system) };
    const view = new AnswerView(settings, this.leaving.signal, () => this.showSum());
    turn.view = view;
    turn.node.append(view.node);
    this.spent.push(view.figures.spent);
    this.stopping = begun?.stopping || new AbortController();
    this.isBusy(true);
    this.follow(true);
    const following = setInterval(() => this.follow(), 100);
    try {
      const answered = (head) => {
        view.answered(head);
        remember(head.id, { text: turn.text, server: settings.server, model: settings.model, before: this.before(turn) });
        this.onBusy(this);
      };
      if (begun) answered(begun.head);
      for await (const piece of begun?.pieces || chat(question, this.stopping.signal, answered)) view.heard(piece);
      view.complete();
    } catch (error) {
      if (error.name === "AbortError") view.end("Stopped.");
      else view.fail(error instanceof Trouble ? error : new Trouble(200, { code: "unreadable", message: String(error) }), {
        again: () => !this.busy && this.answer(turn),
        newKey: this.newKey,
      });
    } finally {
      clearInterval(following);
      this.stopping = null;
      if (view.figures.head) forget(view.figures.head.id);
      turn.answer = view.answer.text;
      view.offer(question, () => this.anew(turn));
      this.isBusy(false);
      this.follow();
      reader.showJump();
    }
  }

  follow(always) {
    if (!this.root.hidden) reader.follow(always);
  }

  isBusy(busy) {
    for (const button of this.node.querySelectorAll(".idle")) button.disabled = busy;
    this.onBusy(this);
  }

  showSum() {
    const spent = this.spent.filter(({ state }) => state !== "none");
    this.sum.textContent = `This chat: ${sumOf(spent)}`;
    this.total.hidden = !spent.length;
  }

  saveButton(kind) {
    const onclick = async () => (await import("./copies.js")).saveChat(kind, this.record());
    return element("button", { type: "button", class: "plain small", onclick }, `Save as ${kind}`);
  }

  /** The chat as it stands, for a file. */
  record() {
    const turns = this.turns.map(({ text, pictures, view }) => ({
      question: text,
      pictures: pictures.length ? pictures.map(({ name, url }) => ({ name, url })) : undefined,
      answer: view.record(),
    }));
    return { title: this.title, system: this.settings().system || undefined, sum: this.sum.textContent, turns };
  }
}

/** A question as the model gets it: a text, or a list of parts where it has pictures. */
function contentOf({ text, pictures }) {
  if (!pictures.length) return text;
  return [...(text ? [{ type: "text", text }] : []), ...pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }))];
}
