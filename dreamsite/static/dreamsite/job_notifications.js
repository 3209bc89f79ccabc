// Notifications of the browser when a long job ends and nobody is looking. Once a job has lasted for a while, a button
// offers them: browsers ask for permission on a click only, and nobody allows what has no use yet.

import { register } from "./installed.js";

const LONG_MS = 10_000;

const offer = document.getElementById("notify-offer");
const long = new Set();

function canAsk() {
  return "Notification" in window && Notification.permission === "default" && (isForPages() || "serviceWorker" in navigator);
}

// Android's browsers have the class, but let only service workers show notifications: making one throws a TypeError.
// Without permission, making one shows nothing anywhere.
function isForPages() {
  try {
    new Notification("");
  } catch (error) {
    return error.name !== "TypeError";
  }
  return true;
}

async function show(title, options) {
  try {
    const notification = new Notification(title, options);
    notification.addEventListener("click", () => {
      focus();
      notification.close();
    });
  } catch {
    const registration = await navigator.serviceWorker?.getRegistration();
    await registration?.showNotification(title, { ...options, data: location.href });
  }
}

/** Note that a job is long once it has lasted for LONG_MS, and offer notifications then. */
export function watchLength(job) {
  setTimeout(() => {
    if (!document.querySelector(`#${job.id}[data-events]`)) return;
    long.add(job.id);
    offer.hidden = !canAsk();
  }, LONG_MS);
}

/** Notify of the end of a long job if that is allowed and the page is out of sight. */
export function notifyOfEnd(job) {
  if (!document.querySelector("[data-events]")) offer.hidden = true;
  if (!long.delete(job.id) || !document.hidden || window.Notification?.permission !== "granted") return;
  show(job.dataset.end, { body: job.ariaLabel, tag: job.id });
}

offer?.querySelector("button").addEventListener("click", async () => {
  const isForWorkers = !isForPages();
  await Notification.requestPermission();
  if (isForWorkers) await register();
  offer.hidden = true;
});
