/**
 * What a model wrote, as page. Nothing of it is trusted:
 *
 *   1. HTML in it is shown as text; pictures are links, so that nothing is fetched; boxes of task lists are characters.
 *   2. DOMPurify lets through only the elements and attributes that Markdown needs.
 *   3. The page's Content-Security-Policy forbids what would be left: scripts, styles, pictures, forms, other origins.
 */

import DOMPurify from "./vendor/dompurify/purify.es.mjs";
import { Marked } from "./vendor/marked/marked.esm.js";
import { copyButton, element, markScrollers, say } from "./dom.js";

const LONGEST_HIGHLIGHTED = 60_000;

const escaped = (text) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const asWritten = (text) => escaped(text).replaceAll("\n", "<br>");

/** Mathematics in a line, as `\(…\)`, `\[…\]` or `$$…$$`: Markdown would take its backslashes and underscores away. */
const MATHS_INLINE = /^(?:\\\([^`]+?\\\)|\\\[[^`]+?\\\]|\$\$[^`]+?\$\$)/;
const inlineMaths = {
  name: "inlineMaths",
  level: "inline",
  start: (text) => text.search(/\$\$|\\[([]/),
  tokenizer(text) {
    const found = MATHS_INLINE.exec(text);
    return found ? { type: "inlineMaths", raw: found[0] } : undefined;
  },
  renderer: ({ raw }) => asWritten(raw),
};

/** The same as a paragraph of its own. One that is not closed yet goes on to the end, as a block of code does. */
const MATHS_BEGIN = /^ {0,3}(\$\$|\\\[)/;
const blockMaths = {
  name: "blockMaths",
  level: "block",
  tokenizer(text) {
    const begin = MATHS_BEGIN.exec(text);
    if (!begin) return undefined;
    const closer = begin[1] === "$$" ? "$$" : "\\]";
    const at = text.indexOf(closer, begin[0].length);
    if (at < 0) return { type: "blockMaths", raw: text };
    const behind = /^[ \t]*(?:\n|$)/.exec(text.slice(at + closer.length));
    return behind ? { type: "blockMaths", raw: text.slice(0, at + closer.length) + behind[0] } : undefined;
  },
  renderer: ({ raw }) => `<p>${asWritten(raw.trim())}</p>`,
};

/** So many quotes and lists in one another are none: each takes a part of the browser's stack, which ends. */
const TOO_DEEP = /^(?: {0,3}(?:>|[-+*]|\d{1,9}[.)])[ \t]*){50}/;
const isTooDeep = (text) => (TOO_DEEP.test(text) ? undefined : false); // undefined: it is a paragraph; false: as usual

const markdown = new Marked({
  breaks: true,
  extensions: [inlineMaths, blockMaths],
  // Where an address is defined apart from its link, as `[1]: address`, both are shown: it may come long after the link.
  tokenizer: { def: () => undefined, blockquote: isTooDeep, list: isTooDeep },
  renderer: {
    html: ({ text, block }) => (block ? `<p>${asWritten(text.trim())}</p>` : escaped(text)),
    image: ({ href, text }) => `<a href="${escaped(href)}">[picture: ${escaped(text || href)}]</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

const TAGS = "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul";
const ALLOWED = {
  ALLOWED_TAGS: [...TAGS.split(" "), "#text"],
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
  ADD_URI_SAFE_ATTR: ["align", "start"], // else their values would have to be addresses
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("uponSanitizeAttribute", (node, attribute) => {
  if (attribute.attrName !== "class") return;
  const allowed = node.nodeName === "SPAN" ? /^((hljs|language)-[\w-]+ ?|[a-z]+_ ?)+$/ : /^language-[\w+#.-]{1,30}$/;
  attribute.keepAttr = ["SPAN", "CODE"].includes(node.nodeName) && allowed.test(attribute.attrValue);
});
DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
  if (!node.title) node.title = node.getAttribute("href") || "This address is not allowed here";
});

function fragmentOf(tokens) {
  const fragment = DOMPurify.sanitize(markdown.parser(tokens), ALLOWED);
  for (const code of fragment.querySelectorAll("pre > code")) dress(code);
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = element("div", { class: "scrolls table", role: "group", "aria-label": "Table" });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  // Each block is written from its own side: an answer in Arabic has code and names in Latin letters.
  for (const block of fragment.children) if (!block.classList.contains("code")) block.dir = "auto";
  return fragment;
}

/** A block of code with its language and a button to copy it. */
function dress(code) {
  const pre = code.parentElement;
  const language = code.className.replace("language-", "");
  const head = element("div", { class: "code-head" }, element("span", {}, language || "text"), copyButton("Copy", () => code.textContent));
  const block = element("div", { class: "code" });
  pre.replaceWith(block);
  pre.className = "scrolls";
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  block.append(head, pre);
}

/** The blocks of a text. What Markdown cannot be read of is a paragraph as it was written: no answer is lost by it. */
function lexed(text) {
  try {
    return markdown.lexer(text);
  } catch {
    return [{ type: "paragraph", raw: text, text, tokens: [{ type: "text", raw: text, text: escaped(text), escaped: true }] }];
  }
}

/** The first heading of an answer comes right below that of the answer, whatever level its model chose for it. */
function levelled(tokens, base) {
  markdown.walkTokens(tokens, (token) => {
    if (token.type !== "heading") return;
    base ??= token.depth;
    token.depth = Math.max(1, token.depth - base + 1);
  });
  return base;
}

let highlighter = null;

/** Colour the code below `root`. The highlighter is loaded for the first block that needs it. */
async function colour(root) {
  const blocks = [...root.querySelectorAll("code[class^=language-]")].filter((code) => code.textContent.length < LONGEST_HIGHLIGHTED);
  if (!blocks.length) return;
  highlighter ??= import("./vendor/highlight/highlight.min.js").then((module) => module.default);
  const hljs = await highlighter.catch(() => null);
  for (const code of blocks) {
    const language = code.className.replace("language-", "");
    if (!hljs?.getLanguage(language)) continue;
    const { value } = hljs.highlight(code.textContent, { language, ignoreIllegals: true });
    code.replaceChildren(DOMPurify.sanitize(value, ALLOWED));
  }
}

/**
 * Markdown that grows. A block that is finished is made once and left alone; only the last one, which may still
 * change, is made anew. So a long answer stays fast, and what one has selected in it stays selected.
 */
export class GrowingMarkdown {
  constructor(root) {
    this.text = "";
    this.root = root;
    this.last = element("div", { class: "last" });
    this.open = "";
    this.base = null;
    this.scheduled = false;
    this.cost = 0;
    root.append(this.last);
  }

  add(text) {
    this.text += text;
    this.open += text;
    if (this.scheduled) return;
    this.scheduled = true;
    // Rendering takes at most a fifth of the time, however long the open block has become.
    setTimeout(() => requestAnimationFrame(() => this.render()), 4 * this.cost);
  }

  end() {
    if (!this.last) return;
    this.render();
    const rest = [...this.last.childNodes];
    this.last.replaceWith(...rest);
    say(rest.map(spoken).join(" "));
    for (const block of rest) if (block instanceof Element) colour(block);
    markScrollers(this.root);
    this.last = null;
  }

  render() {
    if (!this.last) return;
    this.scheduled = false;
    const began = performance.now();
    this.open = this.open.replace(/\r\n?/g, "\n");
    const tokens = lexed(this.open);
    const lastBlock = tokens.findLastIndex((token) => token.type !== "space");
    const done = tokens.slice(0, Math.max(0, lastBlock));
    const length = done.reduce((sum, token) => sum + token.raw.length, 0);
    this.base = levelled(done, this.base);
    if (length) this.finish(done);
    this.open = this.open.slice(length);
    const open = tokens.slice(done.length);
    levelled(open, this.base);
    this.last.replaceChildren(fragmentOf(open));
    this.cost = performance.now() - began;
  }

  finish(tokens) {
    const fragment = fragmentOf(tokens);
    say([...fragment.childNodes].map(spoken).join(" "));
    const made = [...fragment.children];
    this.last.before(fragment);
    for (const block of made) colour(block);
    markScrollers(this.root);
  }
}

/** A block as it is told to a screen reader: code is announced, not read out. */
function spoken(block) {
  if (!block.classList?.contains("code")) return block.textContent;
  const lines = block.querySelector("code").textContent.trimEnd().split("\n").length;
  return `${block.querySelector("pre").getAttribute("aria-label")}, ${lines} ${lines === 1 ? "line" : "lines"}.`;
}
