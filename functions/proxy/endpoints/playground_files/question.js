/** One question: its text and pictures, a form to change it, and the way to what it was before. */

import { element, growing } from "./dom.js";

export class QuestionView {
  /** `asked(text)` asks it anew as `text`; `shown(number)` shows that version of it and of what came after. */
  constructor({ text, pictures, versions }, asked, shown) {
    this.text = text;
    this.asked = asked;
    this.shown = shown;
    this.words = element("p", { dir: "auto", hidden: !text }, text);
    this.edit = element("button", { type: "button", class: "plain small idle", onclick: () => this.change() }, "Edit");
    this.tools = element("div", { class: "asked-tools" }, this.edit);
    const heading = element("h2", { class: "unseen" }, "You");
    const thumbs = pictures.length ? element("div", { class: "pictures" }, ...pictures.map(({ thumb }) => thumb())) : null;
    this.bubble = element("div", { class: "asked-bubble" }, heading, thumbs, this.words);
    this.node = element("article", { class: "asked" }, this.bubble, this.tools);
    if (versions) this.showVersions(versions);
  }

  /** `‹ 2 of 3 ›`: which version is shown, and buttons to the ones beside it. */
  showVersions({ tails, shown }) {
    this.switch?.remove();
    const to = (number, label, sign) =>
      tails[number] && element("button", { type: "button", class: "plain small idle", "aria-label": label, onclick: () => this.shown(number) }, sign);
    const place = element("span", {}, `${shown + 1} of ${tails.length}`);
    this.switch = element("span", { class: "versions" }, to(shown - 1, "Earlier version", "‹"), place, to(shown + 1, "Later version", "›"));
    this.tools.prepend(this.switch);
  }

  /** Put a form in the place of the text. Escape leaves the text as it was. */
  change() {
    const field = element("textarea", { rows: 1, dir: "auto", "aria-label": "Your message" });
    field.value = this.text;
    const done = () => {
      form.remove();
      this.words.hidden = !this.text;
      this.tools.hidden = false;
      this.edit.focus({ preventScroll: true });
    };
    const ask = (event) => {
      event.preventDefault();
      const text = field.value.trim();
      if (!text) return field.focus();
      done();
      this.asked(text);
    };
    const cancel = element("button", { type: "button", class: "plain small", onclick: done }, "Cancel");
    const buttons = element("div", { class: "actions" }, cancel, element("button", { type: "submit", class: "strong small" }, "Ask"));
    const form = element("form", { class: "changing", method: "dialog", onsubmit: ask }, field, buttons);
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        done();
      } else if (event.key === "Enter" && event.target === field && !event.shiftKey && !event.isComposing) ask(event);
    });
    const fit = growing(field);
    this.words.hidden = this.tools.hidden = true;
    this.bubble.append(form);
    fit();
    field.focus();
  }
}
