// How the review shows pictures: blurred and grey, until the reviewer asks for one. The next picture starts so again, and so
// do all when the page is left; unless the reviewer keeps the view for the session, which is that of this tab.
import { read, write } from "./storage.js";

const KEY = "review view";
const root = document.documentElement;
const toggles = [...document.querySelectorAll("[data-toggle]")];
const keep = document.getElementById("keep");

function store() {
  const ids = toggles.filter((toggle) => toggle.checked).map((toggle) => toggle.id);
  write(KEY, keep.checked ? JSON.stringify({ reviewer: keep.dataset.reviewer, ids }) : null, "sessionStorage");
}

/** Blur the pictures, unless the reviewer keeps them as they are. */
export function blurPictures() {
  if (keep.checked) return;
  for (const box of [...toggles, ...document.querySelectorAll(".viewer .reveal input")]) box.checked = false;
}

function leave() {
  root.classList.add("away");
  blurPictures();
}

const kept = JSON.parse(read(KEY, "sessionStorage"));
// The tab may have been another reviewer's before.
if (kept?.reviewer === keep.dataset.reviewer) {
  keep.checked = true;
  for (const toggle of toggles) toggle.checked = kept.ids.includes(toggle.id);
}
for (const input of [...toggles, keep]) input.addEventListener("change", store);
addEventListener("blur", leave);
addEventListener("focus", () => root.classList.remove("away"));
document.addEventListener("visibilitychange", () => {
  if (document.hidden) leave();
  else if (document.hasFocus()) root.classList.remove("away");
});
