// Asks what changed of unfinished tiles and what is new, while somebody can see the page.

const LIVE_MS = 2000;
/** How many times rarer a page is asked about that has no unfinished tiles. */
const IDLE_FACTOR = 5;

let ticks = 0;

function poll() {
  if (document.hidden) return;
  const selector = ticks % IDLE_FACTOR === 0 ? ".poll" : ".poll.live";
  ticks += 1;
  for (const element of document.querySelectorAll(selector)) htmx.trigger(element, "poll");
}

setInterval(poll, LIVE_MS);
document.addEventListener("visibilitychange", () => {
  ticks = 0;
  poll();
});
