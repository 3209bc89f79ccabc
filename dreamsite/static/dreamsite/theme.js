// Loaded before the page is drawn, so that a chosen theme shows without a flash. Whoever is signed in has the theme of
// their account (data-account) on every device. The key and its values are those of Django's admin, where this is loaded
// before its own script: a choice made on either side holds on the other.
{
  const root = document.documentElement;
  const { account, save } = document.currentScript.dataset;
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const read = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage may be forbidden
    }
  };
  const write = (key, value) => {
    try {
      if (value) localStorage.setItem(key, value);
      else localStorage.removeItem(key);
    } catch {
      // The choice then lasts as long as the page.
    }
  };

  // A choice that the account has not heard of yet, such as one made before the sign-in, outlives the page.
  const UNSAVED = "theme-unsaved";
  async function tell(theme) {
    if (!account) return;
    const token = document.querySelector("[name=csrfmiddlewaretoken]")?.value;
    if (!token) return;
    try {
      const body = new URLSearchParams({ theme });
      const answer = await fetch(save, { method: "POST", keepalive: true, headers: { "X-CSRFToken": token }, body });
      if (answer.ok && read(UNSAVED) === theme) write(UNSAVED, null);
    } catch {
      // The next page tries again.
    }
  }
  function choose(theme) {
    root.dataset.theme = theme;
    write("theme", theme);
    write(UNSAVED, theme);
    document.querySelectorAll(`input[name=theme][value=${theme}]`).forEach((input) => (input.checked = true));
    tell(theme);
  }

  const unsaved = read(UNSAVED);
  root.classList.add("js");
  root.dataset.theme = unsaved || account || read("theme") || "auto";
  write("theme", root.dataset.theme);
  if (unsaved) addEventListener("DOMContentLoaded", () => tell(unsaved));

  function onClick(event) {
    const ofAdmin = event.target.closest(".theme-toggle");
    if (!ofAdmin && !event.target.closest("[data-theme-switch]")) return;
    // The admin's own listener is deaf until the page has loaded: its switch works as ours, and only ours hears it.
    if (ofAdmin) event.stopPropagation();
    const shown = root.dataset.theme === "auto" ? system() : root.dataset.theme;
    const wanted = shown === "dark" ? "light" : "dark";
    choose(wanted === system() ? "auto" : wanted);
  }
  document.addEventListener("click", onClick, true);

  // Another tab, and a page that the back button brings back as it was left.
  const follow = () => (root.dataset.theme = read("theme") || root.dataset.theme);
  addEventListener("storage", (event) => event.key === "theme" && follow());
  addEventListener("pageshow", (event) => event.persisted && follow());
}
