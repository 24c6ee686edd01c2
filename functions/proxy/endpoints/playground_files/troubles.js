/** What went wrong, in the words of somebody who helps. The proxy's own message and code stand below, for developers. */

import { copyButton, element, say } from "./dom.js";
import { duration } from "./figures.js";

const KEY = "key";
/** What is no better for being asked again, whatever is chosen. */
const IN_VAIN = ["request_too_large", "context_length_exceeded", "insufficient_quota", "user_blocked"];
/** What something else has to be chosen for first. */
const BY_CHOICE = ["server_not_allowed", "model_not_allowed", "model_not_found", "model_required", "unknown_server", "server_not_configured"];
const LONG_MESSAGE = 300;
const BY_CODE = {
  __proto__: null, // a server may send any word, `constructor` too
  no_connection: ["The proxy cannot be reached", "Check your connection. If it is fine, the proxy may be down."],
  connection_lost: ["The connection was lost", "What had come by then is kept."],
  no_list_of_models: ["What answers here is not the proxy", "Its list of models was asked for, and something else came. The address of this page may be wrong, or what stands before the proxy may have answered."],
  no_models: ["This key may use no model", "Ask the owner of the proxy to let it use some."],
  invalid_api_key: ["This key was refused", "It may be mistyped, expired or switched off. Paste it again as a whole, or ask whoever gave it to you.", KEY],
  token_expired: ["You are signed in no more", "Sign in again: your token has come to its end.", KEY],
  user_blocked: ["You may not use this proxy at the moment", "Its owner can tell why."],
  server_not_allowed: ["Your key may not use this server", "Choose another server, or ask the owner of the proxy."],
  model_not_allowed: ["Your key may not use this model", "Choose another model, or ask the owner of the proxy."],
  model_not_found: ["There is no such model", "Choose another one from the list."],
  model_required: ["This server has no default model", "Choose a model from the list."],
  unknown_server: ["The proxy knows no such server", "It may have been removed. Connect again to see which ones there are."],
  request_too_large: ["The conversation has become too long", "Start a new chat, or send less."],
  context_length_exceeded: ["The conversation has become too long for this model", "Start a new chat, or choose a model that reads more."],
  insufficient_quota: ["The budget is used up", "No more is spent with this key until the budget begins anew."],
  internal_error: ["The proxy made a mistake", "The request’s id helps its owner to find out why."],
  upstream_unreachable: ["The server cannot be reached", "It may be down, or its address may be wrong. Try again, or choose another one."],
  stream_stopped: ["The answer was stopped", "Another tab or program with this key has asked for that."],
  client_absent: ["The answer was stopped", "This page had not been heard of for a while."],
  worker_killed: ["The proxy was interrupted", "What had come by then is kept."],
  stream_not_kept: ["The rest of the answer could not be kept", "What had come by then is kept."],
  upstream_broken_off: ["The server broke off", "The answer is not complete."],
  upstream_authentication_failed: ["The server refused the proxy", "The owner of the proxy has to renew the token for this server."],
  upstream_no_answer: ["The server answered with something that is no answer", "Its address may be wrong. Its owner can tell."],
  upstream_redirect: ["The server points somewhere else", "The proxy does not follow. Its owner has to correct the address."],
  upstream_timeout: ["The server fell silent", "It was waited for, in vain. Try again, or choose another one."],
  deadline_exceeded: ["The answer took too long", "Ask for less at a time."],
  upstream_unavailable: ["The server has failed several times", "It is given a short rest before it is asked again."],
  server_not_configured: ["The proxy has no token for this server yet", "Its owner has to set one up. Other servers may be ready."],
  token_unavailable: ["The server’s token cannot be read at the moment", "This should pass soon. Other servers may be ready."],
  authorization_unavailable: ["Keys cannot be checked at the moment", "This should pass soon."],
  limits_unavailable: ["The limits of your key cannot be checked at the moment", "This should pass soon."],
};

/** `{title, help, needsKey}` for a Trouble. */
export function explained(trouble) {
  const { code, status, head } = trouble;
  if (status === 429 && code !== "insufficient_quota") {
    return head.attempts
      ? { title: "The server is busy", help: "It asks everybody to slow down, or the account behind it has reached its limit." }
      : { title: "That was too fast for your key", help: "It may ask only so often, or for so much, in a minute." };
  }
  if (status === 429 && head.attempts) {
    return { title: "The server’s account is used up", help: "The owner of the proxy has to see to it." };
  }
  const [title, help, what] = BY_CODE[code] || [];
  if (title) return { title, help, needsKey: what === KEY };
  if (code.startsWith("token_")) return { title: "Your token was refused", help: "Sign in again, or tell the owner of the proxy what stands below.", needsKey: true };
  if (status >= 500 || status === 200) return { title: "The server failed", help: "This is its own error. Try again, or choose another model." };
  return { title: "The request was refused", help: "The server’s reason stands below." };
}

/** A box that explains `trouble`; the wait is counted down. `again` tries again, `newKey` asks for another key. */
export function troubleBox(trouble, { again = null, newKey = null } = {}) {
  const { title, help, needsKey } = explained(trouble);
  const waits = trouble.wait > 0 && (trouble.status === 429 || trouble.status === 503);
  const box = element("div", { class: waits ? "trouble waits" : "trouble" }, element("p", { class: "title" }, title), element("p", {}, help));
  if (needsKey && newKey) {
    box.append(element("div", { class: "actions" }, element("button", { type: "button", class: "plain", onclick: newKey }, "Enter another key")));
  } else if (again && !IN_VAIN.includes(trouble.code)) {
    box.append(waiting(again, waits ? trouble.wait : 0, box, BY_CHOICE.includes(trouble.code) ? "Ask again with what is chosen now" : "Try again"));
  } else if (waits) box.append(waiting(null, trouble.wait, box));
  box.append(technical(trouble));
  say(`${title}. ${help}${waits ? ` Wait for ${duration(trouble.wait)}.` : ""}`);
  return box;
}

function technical({ status, code, message, head }) {
  const words = [status >= 400 && `${status}`, code, message].filter(Boolean).join(" · ");
  const shown = element("span", { dir: "auto" }, words);
  const folded = words.length > LONG_MESSAGE;
  const whole = folded ? element("details", {}, element("summary", {}, `${words.slice(0, 100)} …`), shown) : shown;
  const line = element("div", { class: "technical" }, whole);
  if (head.requestId) line.append(copyButton("Copy request id", () => head.requestId));
  return line;
}

/** A button to try `again` with (if that can be), and until `seconds` have passed how long that takes. */
function waiting(again, seconds, box, label = "Try again") {
  const button = again && element("button", { type: "button", class: "plain", onclick: again }, label);
  const left = element("span", { class: "wait", "aria-hidden": "true" });
  if (!seconds) return element("div", { class: "actions" }, button);
  const until = performance.now() + seconds * 1000;
  if (button) button.disabled = true;
  const tick = () => {
    const remaining = Math.ceil((until - performance.now()) / 1000);
    if (remaining > 0) {
      left.replaceChildren("possible in ", element("strong", {}, duration(remaining)));
      setTimeout(tick, remaining > 3600 ? 60_000 : 250);
      return;
    }
    left.remove();
    box.classList.remove("waits");
    if (button) button.disabled = false;
    if (box.isConnected) say("You can try again now.");
  };
  tick();
  return element("div", { class: "actions" }, button, left);
}
