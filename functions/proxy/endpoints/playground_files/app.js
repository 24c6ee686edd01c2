/** The page: from the key to the chats. What was said lives as long as the tab, and the key until a reload. */

import { forgetAllowance } from "./allowance.js";
import { Conversation } from "./conversation.js";
import { byId, element, growing, say } from "./dom.js";
import { Trouble, continued, keepChats, keptChats, models, people, tokenOf, useKey } from "./proxy.js";
import { brokenOff, forget, forgetAll } from "./resuming.js";
import { canBeSent, forgetSettings, offerModels, settings, whyUnavailable } from "./settings.js";
import { explained, troubleBox } from "./troubles.js";

const EXAMPLES = [
  "Explain server-sent events in three sentences",
  "Write a Python function that counts words, with a test",
  "Compare three ways to sort in a table",
];

// ------------------------------------------------------------------------------------------------------------------ key

const isLocal = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
byId("local-note").hidden = !isLocal;

byId("connect").addEventListener("submit", (event) => {
  event.preventDefault();
  connect(byId("key").value);
});

async function connect(key) {
  const field = byId("key");
  const button = byId("connect-button");
  button.disabled = true;
  byId("connect-trouble").replaceChildren();
  field.removeAttribute("aria-invalid");
  useKey(key);
  try {
    const listed = await models();
    if (!listed.models.length) throw new Trouble(200, { code: "no_models", message: whyUnavailable(listed) });
    field.value = "";
    open(listed);
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    useKey("");
    if (explained(error).needsKey) field.setAttribute("aria-invalid", "true");
    byId("connect-trouble").replaceChildren(troubleBox(error, { again: () => byId("connect").requestSubmit() }));
    field.select();
    field.focus();
  } finally {
    button.disabled = false;
  }
}

/** The local stack has an issuer, and people who may sign in with one click. */
async function offerPeople() {
  for (const { user, name, tier } of await people()) {
    const onclick = async () => connect(await tokenOf(user));
    byId("people").append(element("button", { type: "button", class: "plain", onclick }, `Sign in as ${name} (${tier})`));
    byId("people").hidden = false;
  }
}

if (isLocal) offerPeople();

function open(listed) {
  offerModels(listed);
  byId("welcome").hidden = true;
  byId("playground").hidden = byId("session").hidden = false;
  document.body.classList.add("open");
  byId("question").focus();
  say(`Connected. ${listed.models.length} models.`);
  goOn();
}

/** What was being answered when the page was reloaded. Taken once: later answers are this page's own. */
let left = brokenOff();
/** Whether the chats of the page before are back. Until then none are kept in their place. */
let areBack = false;

/** Go on with it, and with the chats of before. Somebody with another key sees nothing of them. */
async function goOn() {
  if (areBack) return;
  const taken = left;
  left = [];
  const before = await keptChats();
  const coming = [];
  for (const each of taken) {
    const stopping = new AbortController();
    const answer = await continued(each.url, stopping.signal);
    if (answer) coming.push({ ...each, answer: { ...answer, stopping } });
    else forget(each.id); // it is over, or somebody else's: no word of it stays here
  }
  for (const { turns, answering } of before) {
    if (turns.length && !coming.some(({ id }) => id === answering)) bringBack(turns);
  }
  for (const { text, server, model, before: turns = [], answer } of coming) {
    bringBack(turns);
    chat.ask(text, [], null, { ...answer, server, model });
    say("The answer goes on.");
  }
  areBack = true;
  showBusy(chat);
}

/** A chat of its own with what was said before. */
function bringBack(turns) {
  if (chat.turns.length) begin();
  byId("examples").hidden = true;
  chat.restore(turns);
}

/** Forget the key and all that was said with it. */
function leave() {
  for (const chat of chats) chat.forget();
  chats = [];
  pictures?.taken();
  begin();
  forgetSettings();
  forgetAll();
  forgetAllowance();
  changeKey();
}

/** Ask for another key. The chats wait for it. */
function changeKey() {
  useKey("");
  byId("playground").hidden = byId("session").hidden = true;
  document.body.classList.remove("open");
  byId("welcome").hidden = false;
  byId("key").focus();
}

byId("forget").addEventListener("click", leave);

// ---------------------------------------------------------------------------------------------------------------- chats

const question = byId("question");
const fit = growing(question);
let chats = [];
let chat = null;

function begin() {
  const empty = chats.find(({ turns }) => !turns.length) || new Conversation({ settings, newKey: changeKey, onBusy: showBusy });
  chats = [...chats.filter((each) => each !== empty), empty];
  turnTo(empty);
}

/** Show a chat. The one that was shown goes on, and what was typed for it waits there. */
function turnTo(next) {
  if (chat) chat.draft = question.value;
  chat = next;
  for (const each of chats) each.show(each === chat);
  byId("examples").hidden = chat.turns.length > 0;
  question.value = chat.draft || "";
  fit();
  showBusy(chat);
}

function showBusy(about) {
  listChats();
  if (areBack) keepChats(chats.filter(({ turns }) => turns.length).map((each) => each.kept()));
  if (about !== chat) return;
  byId("send").hidden = chat.busy;
  byId("stop").hidden = !chat.busy;
  if (!chat.busy && document.activeElement === document.body) question.focus({ preventScroll: true });
}

/** The chats of this tab, behind a button that is there once there are two. */
function listChats() {
  const begun = chats.filter(({ turns }) => turns.length);
  byId("chats").hidden = begun.length < (chat.turns.length ? 2 : 1);
  const items = begun.toReversed().map((each) => {
    const onclick = () => {
      byId("chat-list").hidePopover();
      turnTo(each);
      question.focus({ preventScroll: true });
    };
    const state = each.busy ? element("span", { class: "note" }, " · is being answered") : null;
    return element("li", {}, element("button", { type: "button", "aria-current": each === chat ? "true" : null, onclick }, each.title, state));
  });
  byId("chat-list").replaceChildren(element("ul", { "aria-label": "Chats of this tab" }, ...items));
}

byId("new-chat").addEventListener("click", () => {
  begin();
  question.focus();
});
begin();

// ------------------------------------------------------------------------------------------------------------- question

/** What attaches pictures, once the first one has been attached. */
let pictures = null;

async function attach(files) {
  if (!files.length) return;
  pictures ??= await import("./pictures.js");
  await pictures.attach(files);
  question.focus({ preventScroll: true });
}

function send() {
  const text = question.value.trim();
  const isEmpty = !text && byId("attached").hidden;
  if (isEmpty || chat.busy || !canBeSent()) return;
  question.value = "";
  fit();
  question.focus({ preventScroll: true });
  byId("examples").hidden = true;
  chat.ask(text, pictures?.taken());
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector(":popover-open")) chat.stop();
});
byId("stop").addEventListener("click", () => {
  chat.stop();
  question.focus({ preventScroll: true });
});
byId("attach").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", () => {
  attach([...byId("files").files]);
  byId("files").value = "";
});
question.addEventListener("paste", (event) => {
  const { files, types } = event.clipboardData;
  if (!files.length || types.includes("text/plain")) return; // what is copied from a table is a picture as well
  event.preventDefault();
  attach([...files]);
});
for (const name of ["dragover", "drop"]) {
  byId("playground").addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    if (name === "drop") attach([...event.dataTransfer.files]);
  });
}
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId(byId("playground").hidden ? "key" : "question").focus();
});
byId("examples").append(
  element("p", {}, "For a start:"),
  ...EXAMPLES.map((text) =>
    element("button", { type: "button", class: "example", onclick: () => ((question.value = text), send()) }, text),
  ),
);
