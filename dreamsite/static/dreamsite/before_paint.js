// Applies the stored theme, way of comparing, size of the history's pictures and view of the admin's lists before the page
// is first painted. It is the one script that is not a module: modules wait until the page is parsed, and the wrong theme
// would flash.
//
// A theme that is not saved to the account yet comes first, then the account's (data-account), then the browser's.
(() => {
  const root = document.documentElement;
  let theme = document.currentScript.dataset.account;
  root.classList.add("js");
  // A table needs the width.
  root.dataset.list = matchMedia("(max-width: 767px)").matches ? "grid" : "table";
  try {
    theme = localStorage.getItem("theme-unsaved") || theme || localStorage.getItem("theme");
    const compare = localStorage.getItem("compare");
    if (compare) root.dataset.compare = compare;
    const tileSize = localStorage.getItem("tile-size");
    if (tileSize) root.dataset.tileSize = tileSize;
    const list = localStorage.getItem("list");
    if (list) root.dataset.list = list;
    localStorage.setItem("theme", theme || "auto");
  } catch {
    // Storage may be forbidden.
  }
  root.dataset.theme = theme || "auto";
})();
