// Compares two pictures with a slider, side by side, or by holding a button. The stylesheet does the rest;
// before_paint.js applies the stored view first.
import { read, write } from "./storage.js";

const VIEWS = ["slider", "side", "hold"];

function show(view) {
  document.documentElement.dataset.compare = view;
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
}

function setHeld(button, isHeld) {
  button.setAttribute("aria-pressed", String(isHeld));
  button.closest(".compare").classList.toggle("showing-other", isHeld);
}

// A page without the buttons, such as that of a share link, has the slider.
const storedView = document.querySelector("[data-view]") ? read("compare") : null;
show(VIEWS.includes(storedView) ? storedView : "slider");

document.addEventListener("click", (event) => {
  const toggle = event.target.closest("[data-mask-toggle]");
  if (!toggle) return;
  const isShown = document.querySelector(".compare").classList.toggle("showing-mask");
  toggle.setAttribute("aria-pressed", String(isShown));
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-view]");
  if (!button) return;
  show(button.dataset.view);
  write("compare", button.dataset.view);
});

// A range input moves the cut, so keyboard, pointer and touch all work.
document.addEventListener("input", (event) => {
  if (event.target.matches(".compare .slider")) {
    event.target.closest(".compare").style.setProperty("--at", `${event.target.value}%`);
  }
});

// The arrow keys move the slider and must not go to another generation: shortcuts.js does not see them.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.target.matches?.(".slider") && event.key.startsWith("Arrow")) event.stopPropagation();
  },
  true,
);

document.addEventListener("pointerdown", (event) => {
  const button = event.target.closest?.(".hold");
  if (!button || event.button) return;
  button.setPointerCapture(event.pointerId);
  setHeld(button, true);
});
for (const type of ["pointerup", "pointercancel", "lostpointercapture", "focusout"]) {
  document.addEventListener(type, (event) => {
    if (event.target.matches?.(".hold")) setHeld(event.target, false);
  });
}
document.addEventListener("contextmenu", (event) => {
  if (event.target.matches?.(".hold[aria-pressed=true]")) event.preventDefault();
});
for (const type of ["keydown", "keyup"]) {
  document.addEventListener(type, (event) => {
    if (!event.target.matches?.(".hold") || (event.key !== " " && event.key !== "Enter")) return;
    event.preventDefault();
    setHeld(event.target, type === "keydown");
  });
}
