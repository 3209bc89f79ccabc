// The grid of the history: arrows move between tiles, boxes are chosen one by one, in ranges or all at once.
{
  const links = () => [...document.querySelectorAll("#tiles .tile > a[id]")];
  const boxes = () => [...document.querySelectorAll("#tiles .pick input")];
  const TYPED = "input:not([type=checkbox]), textarea, select, [contenteditable]";
  let last = null;

  // The nearest tile of the next row in this direction (1 down, -1 up), by their middles.
  function beside(all, from, direction) {
    const here = from.getBoundingClientRect();
    const middle = here.left + here.width / 2;
    let best = null;
    let bestFar = Infinity;
    for (const link of all) {
      const box = link.getBoundingClientRect();
      const down = (box.top - here.top) * direction;
      if (down < 8) continue;
      const far = down * 4 + Math.abs(box.left + box.width / 2 - middle);
      if (far < bestFar) [best, bestFar] = [link, far];
    }
    return best;
  }

  function aim(key, current) {
    const all = links();
    const at = all.indexOf(current);
    if (at < 0) {
      // Up and down scroll the page as long as no tile is chosen.
      const visible = all.find((link) => link.getBoundingClientRect().top > 56);
      return key === "ArrowRight" || key === "ArrowLeft" ? visible : null;
    }
    switch (key) {
      case "ArrowRight": return all[at + 1];
      case "ArrowLeft": return all[at - 1];
      case "ArrowDown": return beside(all, current, 1);
      case "ArrowUp": return beside(all, current, -1);
      default: return null;
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(TYPED) || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && boxes().some((box) => box.checked)) {
      document.getElementById("selection").reset();
      return;
    }
    if (!event.key.startsWith("Arrow") || event.target.closest("details[open]")) return;
    const current = document.activeElement.closest(".tile")?.querySelector("a[id]");
    const next = aim(event.key, current);
    if (!next && !current) return;
    event.preventDefault();
    next?.focus();
    next?.closest(".tile").scrollIntoView({ block: "nearest" });
  });

  function count() {
    const chosen = boxes().filter((box) => box.checked).length;
    for (const words of document.querySelectorAll("[data-count]")) words.textContent = `${chosen} chosen`;
  }

  // With shift, all between this box and the one before are set to the same.
  document.addEventListener("click", (event) => {
    const box = event.target.closest(".pick input");
    if (box) {
      const all = boxes();
      const [from, to] = [all.indexOf(last), all.indexOf(box)];
      if (event.shiftKey && from >= 0) {
        for (const between of all.slice(Math.min(from, to), Math.max(from, to) + 1)) between.checked = box.checked;
      }
      last = box;
      count();
    } else if (event.target.closest("[data-choose-all]")) {
      for (const each of boxes()) each.checked = true;
      count();
    } else if (event.target.closest("[data-choosing]")) {
      const button = event.target.closest("[data-choosing]");
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      document.documentElement.classList.toggle("choosing", on);
      if (!on) document.getElementById("selection")?.reset();
    } else if (document.documentElement.classList.contains("choosing")) {
      // While choosing, a tap on a picture is a tap on its box.
      const tile = event.target.closest("#tiles .tile > a")?.closest(".tile");
      if (!tile || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      tile.querySelector(".pick input").click();
    }
  });
  document.addEventListener("reset", () => setTimeout(count));
  addEventListener("pageshow", count);

  // A tile that changes while it is chosen stays chosen; what was done with the chosen ones ends the choice.
  let isAsked = false;
  document.addEventListener("htmx:beforeOnLoad", (event) => (isAsked = event.detail.requestConfig.verb !== "get"));
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const before = event.detail.target.querySelector?.(".pick input");
    const after = event.detail.fragment.querySelector(".pick input");
    if (before && after && !isAsked) after.checked = before.checked;
  });

  // Days without pictures are not named, and a page without any says so itself.
  function tidy() {
    document.querySelectorAll("#tiles > h2").forEach((day) => {
      if (!day.nextElementSibling?.matches(".tile")) day.remove();
    });
    if (document.querySelector("#tiles") && !document.querySelector("#tiles .tile, #tiles .older")) {
      htmx.ajax("GET", location.href, { target: "#results", select: "#results, .empty", swap: "outerHTML" });
    }
  }

  // What is deleted takes the focus along: it goes to the tile that takes its place.
  let successor = null;
  document.addEventListener("htmx:beforeRequest", (event) => {
    const tile = event.target.closest?.(".tile");
    if (!tile || event.target.dataset.key !== "Delete") return;
    const all = links().filter((link) => link.closest(".tile") === tile || !link.closest(".tile").querySelector(".pick input").checked);
    const at = all.indexOf(tile.querySelector("a[id]"));
    successor = all[at + 1] ?? all[at - 1];
  });
  document.addEventListener("htmx:afterRequest", () => {
    if (successor && (document.activeElement === document.body || !document.activeElement)) successor.focus();
    successor = null;
    tidy();
    count();
  });

  // Where one is in a grid that has grown is kept with the page's place in the browser's history. Browsers that did not keep
  // the page itself find the tile again when one comes back, or loads it again.
  const MOST_PAGES = 12;
  function remember() {
    // The last one in sight: where that is, there is a page's height to scroll.
    const at = links().findLast((link) => link.getBoundingClientRect().top < innerHeight);
    if (at) history.replaceState({ ...history.state, at: at.id, top: at.getBoundingClientRect().top }, "");
  }
  let resting = 0;
  const watch = () =>
    addEventListener("scroll", () => {
      clearTimeout(resting);
      resting = setTimeout(remember, 150);
    });

  // Ids grow with time, so one that is gone is not looked for below where it was.
  const isFound = (at) => (links().at(-1)?.id ?? "") <= at;

  async function find({ at, top }) {
    const more = () => document.querySelector("#tiles .older");
    for (let pages = 0; !isFound(at) && more() && pages < MOST_PAGES; pages += 1) {
      const settled = new Promise((resolve) => document.addEventListener("htmx:afterSettle", resolve, { once: true }));
      more().scrollIntoView();
      await Promise.race([settled, new Promise((resolve) => setTimeout(resolve, 5000))]);
    }
    const link = links().find((each) => each.id <= at);
    if (link) scrollBy({ top: link.getBoundingClientRect().top - top, behavior: "instant" });
  }

  addEventListener("load", async () => {
    const [way] = performance.getEntriesByType("navigation");
    const kept = history.state;
    if (kept?.at && !isFound(kept.at) && way?.type !== "navigate") await find(kept);
    watch();
  });
}
