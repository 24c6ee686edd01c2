/** Pictures for a question. They are drawn anew, no larger than models look at, without where they were taken. */

import { byId, element, say } from "./dom.js";

/** Pixels of the longer side. */
const LARGEST = 1600;
const THUMB = 96;
/** Characters above which a picture is sent as JPEG, whatever it was. */
const LONGEST_PNG = 1_000_000;

let waiting = [];

/** Attach `files`, as far as they are pictures that the browser can read. */
export async function attach(files) {
  for (const file of files) {
    const picture = await read(file).catch(() => null);
    if (picture) waiting.push(picture);
    say(picture ? `${file.name} is attached.` : "");
    byId("attach-trouble").textContent = picture ? "" : `${file.name || "This"} is no picture that this browser can read.`;
    byId("attach-trouble").hidden = picture !== null;
    if (!picture) say(byId("attach-trouble").textContent);
    show();
  }
}

/** The pictures that wait to be sent, which then wait no more. */
export function taken() {
  const pictures = waiting;
  waiting = [];
  byId("attach-trouble").hidden = true;
  show();
  return pictures;
}

async function read(file) {
  const bitmap = await createImageBitmap(file);
  const whole = drawn(bitmap, LARGEST);
  const png = file.type === "image/jpeg" ? "" : whole.toDataURL("image/png");
  const url = png && png.length < LONGEST_PNG ? png : drawn(bitmap, LARGEST, "#fff").toDataURL("image/jpeg", 0.85);
  const name = file.name || "picture";
  const small = drawn(bitmap, THUMB * 2);
  bitmap.close();
  return { name, url, thumb: () => labelled(drawn(small, THUMB * 2), name) };
}

/** A canvas with `picture` on it, shrunk to `largest` pixels. */
function drawn(picture, largest, background = null) {
  const scale = Math.min(1, largest / Math.max(picture.width, picture.height));
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d");
  if (background) {
    context.fillStyle = background;
    context.fillRect(0, 0, width, height);
  }
  context.drawImage(picture, 0, 0, width, height);
  return canvas;
}

function labelled(canvas, name) {
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Picture: ${name}`);
  return canvas;
}

function show() {
  const items = waiting.map((picture) => {
    const remove = () => {
      waiting = waiting.filter((each) => each !== picture);
      show();
      byId("question").focus({ preventScroll: true });
    };
    return element("li", {}, picture.thumb(), element("button", { type: "button", class: "plain small", "aria-label": `Remove ${picture.name}`, onclick: remove }, "✕"));
  });
  byId("attached").replaceChildren(...items);
  byId("attached").hidden = !items.length;
}
