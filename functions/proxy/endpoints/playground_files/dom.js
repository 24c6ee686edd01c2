/** Small pieces of page. Text is always set as text: nothing here reads HTML. */

export const byId = (id) => document.getElementById(id);

/** An element with properties (`class`, `on…` listeners, attributes) and children, which are elements or text. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** Tell people who hear the page instead of seeing it. What was said is taken away again after a while. */
export function say(text) {
  const words = text.replace(/\s+/g, " ").trim();
  if (!words) return;
  const line = element("p", {}, words.length > 600 ? `${words.slice(0, 600)} …` : words);
  byId("said").append(line);
  setTimeout(() => line.remove(), 15000);
}

/** A button that copies what `text` gives when it is pressed; it may show less than its `label` says. */
export function copyButton(label, text, shown = label) {
  const button = element("button", { type: "button", class: "plain small", "aria-label": shown === label ? null : label }, shown);
  button.addEventListener("click", async () => {
    let done = "Copied";
    try {
      await navigator.clipboard.writeText(await text());
    } catch {
      done = "The browser does not allow it";
    }
    button.textContent = done;
    button.setAttribute("aria-label", done);
    say(done);
    setTimeout(() => {
      button.textContent = shown;
      if (shown === label) button.removeAttribute("aria-label");
      else button.setAttribute("aria-label", label);
    }, 1600);
  });
  return button;
}

/** What can be scrolled sideways has to be reachable by keyboard, and nothing else should be a stop on the way. */
export function markScrollers(root = document) {
  for (const scroller of root.querySelectorAll(".scrolls")) {
    if (scroller.scrollWidth > scroller.clientWidth + 1) scroller.tabIndex = 0;
    else scroller.removeAttribute("tabindex");
  }
}

/** A text as a file, saved where the browser saves files. */
export function save(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Let a text field be as high as its text, up to what the style sheet allows. */
export function growing(field) {
  const fit = () => {
    field.style.height = "auto";
    if (field.scrollHeight) field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
  };
  field.addEventListener("input", fit);
  return fit;
}
