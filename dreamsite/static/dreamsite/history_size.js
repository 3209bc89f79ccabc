// The size of the history's pictures. The stylesheet does the rest; before_paint.js applies the stored size first.
import { write } from "./storage.js";

const root = document.documentElement;

function showPressed() {
  for (const button of document.querySelectorAll("[data-size]")) {
    button.setAttribute("aria-pressed", String(button.dataset.size === (root.dataset.tileSize ?? "medium")));
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-size]");
  if (!button) return;
  root.dataset.tileSize = button.dataset.size;
  write("tile-size", button.dataset.size);
  showPressed();
});
document.addEventListener("htmx:afterSettle", showPressed);
showPressed();
