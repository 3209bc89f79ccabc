// Keeps the counts of the review pages as they are on the server, while the page is looked at.

const SECONDS = 15;
const MOST_IN_TAB = 99; // the admin's head says no more, either
const place = document.querySelector("[data-status]");

function show(name, value) {
  const part = place.querySelector(`[data-${name}]`);
  part.hidden = !value;
  part.querySelector("b").textContent = value;
}

/** Show the counts that the server sent. */
export function showCounts({ counts, others, decided, skipped }) {
  for (const count of document.querySelectorAll("[data-queue]")) count.textContent = counts[count.dataset.queue];
  const inTab = document.querySelector(".bar .count");
  if (inTab) inTab.firstChild.data = Number.parseInt(counts[""]) > MOST_IN_TAB ? `${MOST_IN_TAB}+` : counts[""];
  show("decided", decided);
  show("skipped", skipped);
  show("others", others);
}

/** Return the keys of the claims on the pictures that the page holds. */
export function claimKeys() {
  const items = [...document.querySelectorAll(".item[data-claim]")].map((item) => item.dataset.claim);
  const fields = [...document.querySelectorAll("input[name=key]")].map((field) => field.value);
  return [...items, ...fields].filter(Boolean);
}

/** Return `fields` and the claims, with the CSRF token and filters of the undo form, which is always there. */
export function formData(fields = []) {
  const data = new FormData();
  for (const input of document.querySelectorAll("form.undo input[type=hidden]")) data.append(input.name, input.value);
  for (const key of claimKeys()) data.append("key", key);
  for (const [name, value] of fields) data.append(name, value);
  return data;
}

/** Return how many wait in the queue that the page shows, as far as they are counted. */
const waiting = () => Number.parseInt(document.querySelector(".tabs [aria-current] [data-queue]").textContent);

async function update() {
  const before = waiting();
  try {
    const response = await fetch(place.dataset.status, { method: "POST", body: formData() });
    if (!response.ok || response.redirected) return; // signed out: the next decision says so
    showCounts(await response.json());
  } catch {
    return; // the next time, or the next decision says so
  }
  if (waiting() > before && document.querySelector(".empty-note")) location.reload();
}

setInterval(() => document.hidden || update(), SECONDS * 1000);
document.addEventListener("visibilitychange", () => document.hidden || update());
