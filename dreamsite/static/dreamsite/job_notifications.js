// Notifications of the browser when a long job ends and nobody is looking. Once a job has lasted for a while, a button
// offers them: browsers ask for permission on a click only, and nobody allows what has no use yet.

const LONG_MS = 10_000;

const offer = document.getElementById("notify-offer");
const long = new Set();

// Android's browsers have the class, but let only service workers show notifications: making one throws a TypeError.
// Without permission, making one shows nothing anywhere.
function canAsk() {
  if (!("Notification" in window) || Notification.permission !== "default") return false;
  try {
    new Notification("");
  } catch (error) {
    return error.name !== "TypeError";
  }
  return true;
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
  const notification = new Notification(job.dataset.end, { body: job.ariaLabel, tag: job.id });
  notification.addEventListener("click", () => {
    focus();
    notification.close();
  });
}

offer?.querySelector("button").addEventListener("click", async () => {
  await Notification.requestPermission();
  offer.hidden = true;
});
