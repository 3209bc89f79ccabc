// Shows a list of the admin as a table or as a grid of pictures. The stylesheet does the rest; before_paint.js applies the
// stored view first.
import { write } from "./storage.js";

const root = document.documentElement;
const buttons = [...document.querySelectorAll("[data-list-view]")];

function show(view) {
  root.dataset.list = view;
  for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.listView === view));
}

for (const button of buttons) {
  button.addEventListener("click", () => {
    show(button.dataset.listView);
    write("list", button.dataset.listView);
  });
}
show(root.dataset.list);
