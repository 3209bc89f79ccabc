// The viewer: a picture in the whole window, to look at closely; _viewer.html describes the attributes that pages use.
import { startZoom } from "./viewer_zoom.js";

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
const DIRECTIONS = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] };
const ZOOM_STEP = 1.25;

const viewer = document.getElementById("viewer");
const part = (name) => viewer.querySelector(`[data-viewer-${name}]`);
const stage = part("stage");
const [mainPane, besidePane] = stage.querySelectorAll(".viewer-pane");
const besideButton = part("beside");
const announcement = viewer.querySelector("[role=status]");

let current = null;
let isBeside = false;
let percent = "";

const zoom = startZoom(stage, {
  onZoom(scale) {
    percent = `${Math.round(100 * scale)} %`;
    part("percent").textContent = percent;
  },
  onSwipe: step,
});

// What can be shown

const picturesIn = (element) => [...element.querySelectorAll("[data-full]")];
const besideOf = (picture) => picture.closest("[data-beside]")?.dataset;

/** Return the pictures that the arrows go through: those of the row in a table, or of the set. */
function siblings(picture) {
  const row = picture.closest("tr");
  const set = row ?? picture.closest("[data-pictures]");
  return set ? picturesIn(set) : [picture];
}

/** Return the next picture in a direction, or undefined at the end. Up and down are for tables. */
function neighbour(picture, direction) {
  if (direction === "left" || direction === "right") {
    const all = siblings(picture);
    return all[all.indexOf(picture) + (direction === "left" ? -1 : 1)];
  }
  const cell = picture.closest("td");
  const rows = [...(cell?.closest("tbody").rows ?? [])];
  const start = rows.indexOf(cell?.parentElement);
  const others = direction === "up" ? rows.slice(0, Math.max(start, 0)).reverse() : rows.slice(start + 1);
  return others.map((row) => row.cells[cell.cellIndex] && picturesIn(row.cells[cell.cellIndex])[0]).find(Boolean);
}

/** Return "2 of 4", empty for a picture on its own. */
function place(picture) {
  const set = picture.closest("[data-pictures]");
  const all = set ? picturesIn(set) : [];
  return all.length > 1 ? `${all.indexOf(picture) + 1} of ${all.length}` : "";
}

// Show

/** Show one picture in a pane; a flagged one is blurred until shown, here or on the page, where the box `flagBox` tells. */
function fill(pane, address, name, flagBox) {
  const image = new Image();
  image.alt = name;
  image.draggable = false;
  image.addEventListener("load", () => {
    pane.classList.remove("loading");
    zoom.render();
  });
  image.addEventListener("error", () => {
    pane.classList.remove("loading");
    announcement.textContent = "The picture cannot be loaded.";
  });
  pane.classList.add("loading");
  pane.querySelector("img")?.remove();
  pane.prepend(image);
  image.src = address;
  pane.querySelector("figcaption").textContent = name;
  pane.classList.toggle("flagged", flagBox !== undefined);
  pane.dataset.flagBox = flagBox ?? "";
  boxIn(pane).checked = Boolean(document.getElementById(flagBox)?.checked);
}

const boxIn = (pane) => pane.querySelector(".reveal input");

for (const pane of [mainPane, besidePane]) {
  boxIn(pane).addEventListener("change", ({ target }) => {
    const box = document.getElementById(pane.dataset.flagBox);
    if (box && box.checked !== target.checked) box.click();
    // One box of the page can be for both.
    const other = pane === mainPane ? besidePane : mainPane;
    if (box && other.dataset.flagBox === box.id) boxIn(other).checked = box.checked;
    announcement.textContent = target.checked ? "Shown" : "Hidden";
  });
}

const isBlurred = () => mainPane.matches(".flagged:has(.reveal input:not(:checked))");

function show(picture) {
  const { full, name = "", flagged } = picture.dataset;
  const other = besideOf(picture);
  // The same part of the next picture, if it is of the same size, is what one compares.
  const before = mainPane.querySelector("img");
  const size = (image) => `${image?.naturalWidth}:${image?.naturalHeight}`;
  const sizeBefore = size(before);
  current = picture;
  fill(mainPane, full, name, flagged);
  besidePane.hidden = !other || !isBeside;
  if (other) fill(besidePane, other.beside, other.besideName, other.besideFlagged);
  besideButton.hidden = !other;
  besideButton.setAttribute("aria-pressed", String(isBeside));
  mainPane.querySelector("img").addEventListener("load", (event) => {
    if (before && size(event.target) !== sizeBefore) zoom.whole();
  });
  stage.classList.toggle("paired", !besidePane.hidden);
  part("name").textContent = name;
  part("count").textContent = place(picture);
  for (const link of ["page", "studio"]) {
    part(link).hidden = !picture.dataset[link];
    part(link).href = picture.dataset[link] ?? "";
  }
  for (const button of stage.querySelectorAll("[data-viewer-step]")) {
    button.hidden = !neighbour(picture, button.dataset.viewerStep);
  }
  // What had the focus may be hidden now: the button of a step that is not possible here.
  if (!document.activeElement.checkVisibility()) part("close").focus();
  for (const direction of ["left", "right"]) {
    const next = neighbour(picture, direction);
    if (next) new Image().src = next.dataset.full;
  }
  announcement.textContent = [name, place(picture), isBlurred() && "blurred"].filter(Boolean).join(", ");
}

function step(direction) {
  const next = neighbour(current, direction);
  if (!next) return false;
  show(next);
  return true;
}

function setBeside(isOn) {
  isBeside = isOn;
  besidePane.hidden = !isOn;
  stage.classList.toggle("paired", isOn);
  besideButton.setAttribute("aria-pressed", String(isOn));
  zoom.render();
  announcement.textContent = isOn ? `${besidePane.querySelector("figcaption").textContent} beside it` : "Alone";
}

/** Open the viewer with a picture; `withBeside` shows the one to compare it with, too. */
function open(picture, withBeside) {
  isBeside = withBeside && Boolean(besideOf(picture));
  viewer.showModal();
  zoom.whole();
  show(picture);
}

// Controls

const commands = {
  in: () => zoom.zoomBy(ZOOM_STEP),
  out: () => zoom.zoomBy(1 / ZOOM_STEP),
  whole: () => zoom.whole(),
  full: () => zoom.zoomTo(1),
  beside: () => besideButton.hidden || setBeside(!isBeside),
};

/** Run a command; those that zoom tell the scale. */
function run(command) {
  commands[command]();
  if (command !== "beside") announcement.textContent = percent;
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-look]");
  if (!opener || event.ctrlKey || event.metaKey || event.shiftKey || event.defaultPrevented) return;
  const picture = opener.dataset.look ? document.querySelector(opener.dataset.look) : opener;
  if (!picture) return;
  event.preventDefault();
  // A key may have clicked it: the focus comes back to it when the viewer closes.
  opener.focus();
  open(picture, opener.dataset.lookBeside !== undefined);
});

viewer.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.viewerStep) step(button.dataset.viewerStep);
  else if (button.dataset.viewerCommand) run(button.dataset.viewerCommand);
  else if (button.matches("[data-viewer-close]")) viewer.close();
  else if (button.matches("[data-viewer-screen]")) toggleFullScreen();
});

function toggleFullScreen() {
  // A dialog cannot fill the screen, what is in it can.
  if (document.fullscreenElement) document.exitFullscreen();
  else viewer.firstElementChild.requestFullscreen();
}
part("screen").hidden = !document.fullscreenEnabled;
document.addEventListener("fullscreenchange", () => {
  part("screen").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
});

const KEYS = { "+": "in", "=": "in", "-": "out", 0: "whole", 1: "full", c: "beside" };

document.addEventListener("keydown", (event) => {
  if (!viewer.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const direction = ARROWS[event.key];
  const command = KEYS[event.key.toLowerCase()];
  if (direction) {
    event.preventDefault();
    // With shift, or where no picture is next, the arrows move over the picture.
    if (event.shiftKey || !step(direction)) zoom.pan(...DIRECTIONS[direction]);
  } else if (command) {
    event.preventDefault();
    run(command);
  }
});

viewer.addEventListener("close", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  for (const pane of [mainPane, besidePane]) pane.querySelector("img")?.remove();
  // The picture that was shown last, where it can have the focus.
  if (current?.isConnected) current.focus();
  current = null;
});
