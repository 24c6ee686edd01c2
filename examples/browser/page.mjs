// The page: one question at a time, shown as it is answered, with a button that stops it.
import { streamChat } from "./chat.mjs";

const element = (id) => document.getElementById(id);
let running; // the AbortController of the answer that is under way

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  running?.abort();
  const controller = (running = new AbortController());
  element("answer").textContent = element("problem").textContent = "";
  element("stop").disabled = false;
  try {
    const pieces = streamChat({
      baseUrl: element("base-url").value.replace(/\/+$/, ""),
      key: element("key").value, // stays in this field: not in the URL, a cookie or the storage
      model: element("model").value,
      messages: [{ role: "user", content: element("question").value }],
      signal: controller.signal,
    });
    // Text nodes, never innerHTML: what a model writes may be HTML with a script in it.
    for await (const piece of pieces) element("answer").append(piece);
  } catch (error) {
    if (!controller.signal.aborted) element("problem").textContent = explained(error);
  } finally {
    if (running === controller) element("stop").disabled = true;
  }
});

element("stop").addEventListener("click", () => running?.abort());

function explained(error) {
  const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  // `fetch` does not say why it failed: a wrong address, no network, or an origin that CorsAllowOrigins does not list.
  if (error instanceof TypeError) return `The proxy cannot be reached from this page (${error.message}).`;
  return `${error.message}${wait}`;
}
