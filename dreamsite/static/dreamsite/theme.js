// The switch between light and dark. The choice is stored in the browser and saved to the account of the user who is
// signed in (data-save on the script is the address for that).
import { read, write } from "./storage.js";

// The theme chosen while it is not saved to the account: for example one chosen before signing in.
const UNSAVED = "theme-unsaved";

const root = document.documentElement;
const saveUrl = document.querySelector("script[data-save]")?.dataset.save;
const systemTheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");

async function save(theme) {
  const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
  if (!saveUrl || !token) return;
  try {
    const body = new URLSearchParams({ theme });
    const response = await fetch(saveUrl, { method: "POST", keepalive: true, headers: { "X-CSRFToken": token }, body });
    if (response.ok && read(UNSAVED) === theme) write(UNSAVED, null);
  } catch {
    // The next page tries again.
  }
}

function choose(theme) {
  root.dataset.theme = theme;
  write("theme", theme);
  write(UNSAVED, theme);
  document.querySelectorAll(`input[name=theme][value=${theme}]`).forEach((input) => (input.checked = true));
  save(theme);
}

function onClick(event) {
  if (!event.target.closest("[data-theme-switch]")) return;
  const current = root.dataset.theme === "auto" ? systemTheme() : root.dataset.theme;
  const next = current === "dark" ? "light" : "dark";
  choose(next === systemTheme() ? "auto" : next);
}

// Another tab may have changed the theme, also while the browser kept this page for the back button.
function applyStored() {
  root.dataset.theme = read("theme") || root.dataset.theme;
}

const unsaved = read(UNSAVED);
if (unsaved) save(unsaved);
document.addEventListener("click", onClick);
addEventListener("storage", (event) => event.key === "theme" && applyStored());
addEventListener("pageshow", (event) => event.persisted && applyStored());
