// The history's grid: arrow keys move between tiles, boxes select tiles, and what changes on the server changes in
// place.

const tileLinks = () => [...document.querySelectorAll("#tiles .tile > a[id]")];
const boxes = () => [...document.querySelectorAll("#tiles .pick input")];

// Arrow keys

const TEXT_FIELDS = "input:not([type=checkbox]), textarea, select, [contenteditable]";
const HEADER_HEIGHT = 56;

/** Return the nearest tile's link in the next row down (direction 1) or up (-1), by distance of the middles. */
function verticalNeighbour(links, from, direction) {
  const start = from.getBoundingClientRect();
  const middle = start.left + start.width / 2;
  let nearest = null;
  let nearestDistance = Infinity;
  for (const link of links) {
    const box = link.getBoundingClientRect();
    const rise = (box.top - start.top) * direction;
    if (rise < 8) continue;
    const distance = rise * 4 + Math.abs(box.left + box.width / 2 - middle);
    if (distance < nearestDistance) [nearest, nearestDistance] = [link, distance];
  }
  return nearest;
}

function arrowTarget(key, current) {
  const links = tileLinks();
  const index = links.indexOf(current);
  if (index < 0) {
    // Without a focused tile, up and down scroll the page.
    const firstVisible = links.find((link) => link.getBoundingClientRect().top > HEADER_HEIGHT);
    return key === "ArrowRight" || key === "ArrowLeft" ? firstVisible : null;
  }
  switch (key) {
    case "ArrowRight": return links[index + 1];
    case "ArrowLeft": return links[index - 1];
    case "ArrowDown": return verticalNeighbour(links, current, 1);
    case "ArrowUp": return verticalNeighbour(links, current, -1);
    default: return null;
  }
}

// Enter in the name of a new album adds to it. The first button of the form, which Enter presses, does nothing.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.name !== "new_album") return;
  event.preventDefault();
  event.target.nextElementSibling.click();
});

document.addEventListener("keydown", (event) => {
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
  if (hasModifier || event.target.closest(TEXT_FIELDS) || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    setSelecting(false);
    return;
  }
  if (!event.key.startsWith("Arrow") || event.target.closest("details[open]")) return;
  const current = document.activeElement.closest(".tile")?.querySelector("a[id]");
  const target = arrowTarget(event.key, current);
  if (!target && !current) return;
  event.preventDefault();
  target?.focus();
  target?.closest(".tile").scrollIntoView({ block: "nearest" });
});

// Selection

let lastId = null;

const unseen = () => [...document.querySelectorAll("#matching input")];

/** The selection is the ticked boxes and, of all that match, those that are not on the page. */
function updateCount() {
  const shown = new Map(boxes().map((box) => [box.value, box]));
  for (const field of unseen()) {
    if (!shown.has(field.value)) continue;
    shown.get(field.value).checked = true;
    field.remove();
  }
  const count = boxes().filter((box) => box.checked).length + unseen().length;
  for (const label of document.querySelectorAll("[data-count]")) label.textContent = `${count} selected`;
  for (const button of document.querySelectorAll("#selection [value=compare]")) button.disabled = count !== 2;
}

/** With shift, a click sets all boxes between this one and the one clicked before. */
function selectRange(event, box) {
  const all = boxes();
  // By id: a tile that was updated since has another box.
  const [from, to] = [all.findIndex((each) => each.value === lastId), all.indexOf(box)];
  if (event.shiftKey && from >= 0) {
    for (const each of all.slice(Math.min(from, to), Math.max(from, to) + 1)) each.checked = box.checked;
  }
  lastId = box.value;
  updateCount();
}

const isSelecting = () => document.documentElement.classList.contains("selecting");

/** Start selecting, or stop it and clear the selection. */
function setSelecting(isOn) {
  document.querySelector("[data-toggle-selecting]").setAttribute("aria-pressed", isOn);
  document.documentElement.classList.toggle("selecting", isOn);
  if (!isOn) document.getElementById("selection")?.reset();
}

document.addEventListener("click", (event) => {
  const box = event.target.closest(".pick input");
  const toggle = event.target.closest("[data-toggle-selecting]");
  if (box) {
    selectRange(event, box);
  } else if (event.target.closest("[data-select-all]")) {
    for (const each of boxes()) each.checked = true;
    updateCount();
  } else if (toggle) {
    setSelecting(!isSelecting());
  } else if (isSelecting()) {
    // While selecting, a tap on a picture is a tap on its box. A click by script would not tell that shift is held.
    const tile = event.target.closest("#tiles .tile > a")?.closest(".tile");
    if (!tile || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const tapped = tile.querySelector(".pick input");
    tapped.checked = !tapped.checked;
    selectRange(event, tapped);
  }
});
document.addEventListener("reset", () => {
  lastId = null;
  document.getElementById("matching")?.replaceChildren();
  setTimeout(updateCount); // the event comes before the boxes are cleared
});
addEventListener("pageshow", updateCount);

// Updates by htmx

// A tile that is swapped stays selected, unless an action on the selection swapped it: that ends the selection.
let isAction = false;
document.addEventListener("htmx:beforeOnLoad", (event) => (isAction = event.detail.requestConfig.verb !== "get"));
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const before = event.detail.target.querySelector?.(".pick input");
  const after = event.detail.fragment.querySelector(".pick input");
  if (before && after && !isAction) after.checked = before.checked;
});

/** Remove headings of days without tiles; without any tile, load the results again, which say that there are none. */
function removeEmptyDays() {
  document.querySelectorAll("#tiles > h2").forEach((day) => {
    if (!day.nextElementSibling?.matches(".tile")) day.remove();
  });
  if (document.querySelector("#tiles") && !document.querySelector("#tiles .tile, #tiles .more")) {
    htmx.ajax("GET", location.href, { target: "#results", select: "#results, .empty", swap: "outerHTML" });
  }
}

// The focus of a deleted tile goes to the next tile that stays.
let focusAfterDelete = null;
document.addEventListener("htmx:beforeRequest", (event) => {
  const tile = event.target.closest?.(".tile");
  if (!tile || event.target.dataset.key !== "Delete") return;
  const remaining = tileLinks().filter((link) => {
    const other = link.closest(".tile");
    return other === tile || !other.querySelector(".pick input").checked;
  });
  const index = remaining.indexOf(tile.querySelector("a[id]"));
  focusAfterDelete = remaining[index + 1] ?? remaining[index - 1];
});
document.addEventListener("htmx:afterRequest", () => {
  const hasFocus = document.activeElement && document.activeElement !== document.body;
  if (!hasFocus) focusAfterDelete?.focus();
  focusAfterDelete = null;
  removeEmptyDays();
});
document.addEventListener("htmx:afterSettle", updateCount);

// When the results are loaded again, what is selected stays selected.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (detail.target.id !== "results") return;
  const selected = new Set(boxes().flatMap((box) => (box.checked ? [box.value] : [])));
  const select = () => {
    for (const box of boxes()) box.checked ||= selected.has(box.value);
    updateCount();
  };
  document.addEventListener("htmx:afterSettle", select, { once: true });
});

// Scroll position
//
// The grid grows as it is scrolled, so a browser that does not keep the page cannot restore the position of a page that
// is gone back to or reloaded. The last tile in sight is kept in the browser's history, and pages are loaded until it
// is there.

const MAX_PAGES = 12;
const SCROLL_END_MS = 150;
const PAGE_LOAD_MS = 5000;

function rememberPosition() {
  const last = tileLinks().findLast((link) => link.getBoundingClientRect().top < innerHeight);
  if (!last) return;
  history.replaceState({ ...history.state, tile: last.id, top: last.getBoundingClientRect().top }, "");
}

function rememberOnScroll() {
  let timer = 0;
  addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(rememberPosition, SCROLL_END_MS);
  });
}

// Ids grow with time and the tiles are in their order, so a tile that was deleted is not searched for below its place.
function isAtOrAfter(id, tile) {
  return document.querySelector("#tiles[data-oldest-first]") ? id >= tile : id <= tile;
}

function isLoaded(tile) {
  const last = tileLinks().at(-1);
  return last !== undefined && isAtOrAfter(last.id, tile);
}

async function restorePosition({ tile, top }) {
  const moreLink = () => document.querySelector("#tiles .more");
  for (let pages = 0; !isLoaded(tile) && moreLink() && pages < MAX_PAGES; pages += 1) {
    const settled = new Promise((resolve) => document.addEventListener("htmx:afterSettle", resolve, { once: true }));
    moreLink().scrollIntoView();
    await Promise.race([settled, new Promise((resolve) => setTimeout(resolve, PAGE_LOAD_MS))]);
  }
  const link = tileLinks().find((each) => isAtOrAfter(each.id, tile));
  if (link) scrollBy({ top: link.getBoundingClientRect().top - top, behavior: "instant" });
}

addEventListener("load", async () => {
  const [navigation] = performance.getEntriesByType("navigation");
  const position = history.state;
  if (position?.tile && !isLoaded(position.tile) && navigation?.type !== "navigate") await restorePosition(position);
  rememberOnScroll();
});
