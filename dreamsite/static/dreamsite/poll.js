// Refreshes the part of a page that says so by data-poll-seconds, while somebody can see the page.

const SELECTOR = "[data-poll-seconds]";

function poll() {
  const part = document.querySelector(SELECTOR);
  if (part && !document.hidden) htmx.trigger(part, "poll");
}

setInterval(poll, 1000 * document.querySelector(SELECTOR).dataset.pollSeconds);
document.addEventListener("visibilitychange", poll);
// A redirect means that nobody is signed in any more: the page itself says so.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  const { pathInfo, target } = detail;
  if (!target.matches(SELECTOR) || pathInfo.responsePath === pathInfo.requestPath) return;
  detail.shouldSwap = false;
  location.reload();
});
