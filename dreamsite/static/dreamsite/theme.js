// Loaded before the page is drawn, so that a chosen theme shows without a flash. The key and its values are those of
// Django's admin: a choice made here holds there too.
{
  const root = document.documentElement;
  const system = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const stored = () => {
    try {
      return localStorage.getItem("theme") || "auto";
    } catch {
      return "auto"; // storage may be forbidden
    }
  };

  root.classList.add("js");
  root.dataset.theme = stored();

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-switch]")) return;
    const shown = root.dataset.theme === "auto" ? system() : root.dataset.theme;
    const wanted = shown === "dark" ? "light" : "dark";
    root.dataset.theme = wanted === system() ? "auto" : wanted;
    try {
      localStorage.setItem("theme", root.dataset.theme);
    } catch {
      // The choice then lasts as long as the page.
    }
  });

  window.addEventListener("storage", (event) => {
    if (event.key === "theme") root.dataset.theme = stored();
  });
}
