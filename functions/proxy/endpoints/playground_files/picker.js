/** A list of many models with a search: all servers, the chosen one first, in groups, every name as long as it is. */

import { element, say } from "./dom.js";

/** Resolves to `{server, model}`, or to null when nothing was picked. `byServer` has the names of each server's models. */
export function pickModel(byServer, server, model) {
  return new Promise((resolve) => {
    const picker = new Picker(byServer, server, model);
    document.body.append(picker.dialog);
    picker.dialog.addEventListener("close", () => {
      picker.dialog.remove();
      resolve(picker.picked);
    });
    picker.dialog.showModal();
    picker.show();
  });
}

/** The maker or family that a name begins with: `mistralai/…`, `gpt-5.4-mini`, `o3`. */
function familyOf(name) {
  const slash = name.lastIndexOf("/");
  return slash > 0 ? name.slice(0, slash) : name.match(/^[\p{L}]+/u)?.[0] || name;
}

/** `[[group, names]]`: families in the order of their names; those of one model are together at the end. */
function grouped(names) {
  const groups = new Map();
  for (const name of names) groups.set(familyOf(name), [...(groups.get(familyOf(name)) || []), name]);
  const several = [...groups].filter(([, members]) => members.length > 1).sort(([a], [b]) => a.localeCompare(b));
  const single = [...groups].filter(([, members]) => members.length === 1).flatMap(([, members]) => members);
  return [...several, ...(single.length ? [[several.length ? "others" : "", single]] : [])];
}

class Picker {
  constructor(byServer, server, model) {
    this.servers = [server, ...[...byServer.keys()].filter((name) => name !== server)];
    this.byServer = byServer;
    this.chosen = { server, model };
    this.picked = null;
    this.options = [];
    const count = [...byServer.values()].reduce((sum, names) => sum + names.length, 0);
    this.search = element("input", {
      type: "search", role: "combobox", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      "aria-label": `Search ${count} models`, "aria-autocomplete": "list", "aria-expanded": "true", "aria-controls": "picker-list",
      placeholder: `Search ${count} models`, oninput: () => this.show(), onkeydown: (event) => this.pressed(event),
    });
    this.list = element("div", { id: "picker-list", role: "listbox", "aria-label": "Models", tabindex: -1 });
    const close = element("button", { type: "button", class: "plain", onclick: () => this.dialog.close() }, "Close");
    this.dialog = element("dialog", { class: "picker", "aria-label": "Choose a model" }, element("div", { class: "field" }, this.search, close), this.list);
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return; // which stops no answer, and empties no search
      event.preventDefault();
      event.stopPropagation();
      this.dialog.close();
    });
  }

  /** Show what has every word that is searched for. */
  show() {
    const written = this.search.value.trim();
    const words = written.toLowerCase().split(/\s+/);
    const has = (server) => (name) => words.every((word) => `${server}/${name}`.toLowerCase().includes(word));
    this.options = [];
    const groups = this.servers.flatMap((server) => {
      const found = grouped(this.byServer.get(server).filter(has(server)));
      const named = found.map(([family, names]) => this.group([server || "Aliases", family].filter(Boolean).join(" · "), server, names));
      const standard = server && server === this.chosen.server && !written ? [this.group("", server, [""])] : [];
      return [...standard, ...named];
    });
    const number = this.options.length;
    const own = written && this.chosen.server ? [this.group("As it is written", this.chosen.server, [written])] : [];
    this.list.replaceChildren(...groups, ...own);
    const current = this.options.findIndex(({ server, model }) => !written && server === this.chosen.server && model === this.chosen.model);
    this.move(Math.max(0, current));
    if (written) say(`${number} ${number === 1 ? "model" : "models"}.`);
  }

  group(title, server, names) {
    const heading = title ? element("div", { class: "picker-group", "aria-hidden": "true" }, title) : null;
    const options = names.map((model) => {
      const isChosen = server === this.chosen.server && model === this.chosen.model;
      const pick = () => this.pick({ server, model });
      const option = element("div", { role: "option", id: `model-${this.options.length}`, "aria-selected": String(isChosen), onclick: pick }, model || "The server’s default");
      this.options.push({ server, model, option });
      return option;
    });
    return element("div", { role: "group", "aria-label": title || server }, heading, ...options);
  }

  move(to) {
    this.options[this.active]?.option.classList.remove("active");
    this.active = Math.min(Math.max(0, to), this.options.length - 1);
    const option = this.options[this.active]?.option;
    option?.classList.add("active");
    option?.scrollIntoView({ block: "nearest" });
    if (option) this.search.setAttribute("aria-activedescendant", option.id);
    else this.search.removeAttribute("aria-activedescendant");
  }

  pressed(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    if (event.key in steps) this.move(this.active + steps[event.key]);
    else if (event.key === "Enter" && !event.isComposing && this.options.length) this.pick(this.options[this.active]);
    else return;
    event.preventDefault();
  }

  pick({ server, model }) {
    this.picked = { server, model };
    this.dialog.close();
  }
}
