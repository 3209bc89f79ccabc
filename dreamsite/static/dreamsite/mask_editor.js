// The mask editor: a dialog in which one marks what of the picture may change.
import { openShare } from "./mask_words.js";
import { createTools, rectangle } from "./mask_tools.js";
import { createView } from "./mask_view.js";

const dialog = document.getElementById("mask-editor");
const stage = dialog.querySelector(".mask-stage");
const paper = stage.querySelector(".mask-paper");
const status = dialog.querySelector("[data-mask-status]");
const errors = dialog.querySelector("[data-mask-error]");
const sizeField = dialog.querySelector("[data-mask-size]");
const numbers = dialog.querySelector("[data-mask-numbers]");
const percent = dialog.querySelector("[data-mask-percent]");
const fileField = dialog.querySelector("[data-mask-file]");
const button = (command) => dialog.querySelector(`[data-mask-command="${command}"]`);

const ZOOM_STEP = 1.5;
const BRUSH_SHARE = 1 / 12; // of the longer side
const TOOLS = ["brush", "rectangle", "lasso", "move"];
const KEYS = {
  "[": "smaller",
  "]": "larger",
  "+": "zoom-in",
  "-": "zoom-out",
  0: "fit",
  b: "brush",
  r: "rectangle",
  l: "lasso",
  m: "move",
  p: "paint",
  e: "erase",
  i: "invert",
};

let mask = null;

const view = createView(stage, paper, (scale) => (percent.textContent = `${Math.round(100 * scale)} %`));
const tools = createTools(stage, view, {
  onChange: changed,
  onSize(size, most) {
    sizeField.max = most;
    sizeField.value = size;
    sizeField.setAttribute("aria-valuetext", `${size} pixels`);
  },
  onPen: () => (status.textContent = "Drawing. Arrow keys draw, Enter ends, Escape cancels."),
});

function changed() {
  status.textContent = openShare(mask.measure().share);
  errors.textContent = "";
  button("undo").disabled = !mask.canUndo;
  button("redo").disabled = !mask.canRedo;
}

function change(mark) {
  tools.cancel();
  mask.add(mark);
  changed();
}

function choose(tool) {
  tools.choose(tool);
  for (const each of TOOLS) button(each).setAttribute("aria-pressed", String(each === tool));
  stage.dataset.tool = tool;
}

function setErasing(isErasing) {
  tools.isErasing = isErasing;
  button("paint").setAttribute("aria-pressed", String(!isErasing));
  button("erase").setAttribute("aria-pressed", String(isErasing));
}

const COMMANDS = {
  ...Object.fromEntries(TOOLS.map((tool) => [tool, () => choose(tool)])),
  paint: () => setErasing(false),
  erase: () => setErasing(true),
  smaller: tools.smaller,
  larger: tools.larger,
  invert: () => change({ kind: "invert" }),
  clear: () => change({ kind: "clear" }),
  undo() {
    tools.cancel();
    mask.undo();
    changed();
  },
  redo() {
    tools.cancel();
    mask.redo();
    changed();
  },
  "zoom-in": () => view.zoomBy(ZOOM_STEP),
  "zoom-out": () => view.zoomBy(1 / ZOOM_STEP),
  fit: view.fit,
  done: () => dialog.close(),
};

/** Mark, or erase, the rectangle of the number fields. */
function addRectangle() {
  const [left, upper, width, height] = ["left", "upper", "width", "height"].map((name) =>
    Number(numbers.querySelector(`[name=${name}]`).value),
  );
  const right = Math.min(left + width, mask.width);
  const lower = Math.min(upper + height, mask.height);
  if (right <= left || lower <= upper) {
    errors.textContent = `That is outside of the picture, which has ${mask.width} × ${mask.height} pixels.`;
    return;
  }
  change({ kind: "area", points: rectangle([left, upper], [right, lower]), isErased: tools.isErasing });
}

async function useFile(file) {
  if (!file) return;
  const picture = await createImageBitmap(file).catch(() => null);
  if (!picture) {
    errors.textContent = `This browser cannot show ${file.name}. Choose a PNG, JPEG or WebP file.`;
    return;
  }
  tools.cancel();
  mask.addPicture(picture);
  picture.close();
  changed();
}

function commandOf(event) {
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    if (key === "z") return event.shiftKey ? "redo" : "undo";
    return key === "y" ? "redo" : null;
  }
  return event.altKey ? null : KEYS[event.key.toLowerCase()];
}

dialog.addEventListener("click", ({ target }) => {
  const command = target.closest("[data-mask-command]")?.dataset.maskCommand;
  if (command) COMMANDS[command]();
});
dialog.addEventListener("keydown", (event) => {
  if (event.target.matches("[type=number]")) return;
  const command = commandOf(event);
  if (!command) return;
  event.preventDefault();
  COMMANDS[command]();
});
sizeField.addEventListener("input", () => tools.setSize(Number(sizeField.value)));
dialog.querySelector("[data-mask-opacity]").addEventListener("input", ({ target }) => {
  document.documentElement.style.setProperty("--mask-opacity", target.value / 100);
});
numbers.addEventListener("submit", (event) => {
  event.preventDefault();
  addRectangle();
});
fileField.addEventListener("change", async () => {
  await useFile(fileField.files[0]);
  fileField.value = "";
});

// What is dropped or pasted here is a mask; elsewhere on the page it is the picture.
for (const type of ["dragenter", "dragover"]) {
  dialog.addEventListener(type, (event) => {
    event.preventDefault();
    event.stopPropagation();
  });
}
for (const [type, contents] of [["drop", "dataTransfer"], ["paste", "clipboardData"]]) {
  dialog.addEventListener(type, (event) => {
    event.stopPropagation();
    if (type === "paste" && !event[contents].files.length) return;
    event.preventDefault();
    useFile(event[contents].files[0]);
  });
}

/** Let one draw on a mask over this picture. `onDone` is called when the dialog is closed. */
export function edit(newMask, image, { isFlagged, onDone }) {
  mask = newMask;
  const picture = Object.assign(new Image(), { src: image.src, alt: "" });
  paper.querySelector("img, canvas")?.parentElement.querySelectorAll("img, canvas").forEach((part) => part.remove());
  paper.prepend(picture, mask.canvas);
  paper.querySelector("svg").setAttribute("viewBox", `0 0 ${mask.width} ${mask.height}`);
  stage.classList.toggle("flagged", isFlagged);
  for (const field of numbers.querySelectorAll("[type=number]")) {
    field.max = ["left", "width"].includes(field.name) ? mask.width : mask.height;
  }
  dialog.showModal();
  tools.use(mask);
  view.show(mask.width, mask.height);
  choose("brush");
  setErasing(false);
  tools.setSize(Math.max(mask.width, mask.height) * BRUSH_SHARE);
  changed();
  stage.focus();
  dialog.addEventListener(
    "close",
    () => {
      tools.cancel();
      onDone();
    },
    { once: true },
  );
}
