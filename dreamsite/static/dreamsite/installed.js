// The site as an app that was installed: its service worker, and the picture that was shared with it.

const KEPT = "received-picture";
const MAX_AGE_MS = 3_600_000;

// The worker acts for addresses below its own, so it is beside the manifest, where the site begins.
const site = document.querySelector("link[rel=manifest]").href;
const worker = new URL("service-worker.js", site);
const receiver = new URL("studio/receive", site);

/** Register the service worker and return its registration; undefined without HTTPS, and where that is forbidden. */
export async function register() {
  return navigator.serviceWorker?.register(worker).catch(() => undefined);
}

/** Return the picture that was shared with the site within MAX_AGE_MS, once; undefined without one. */
export async function takeReceived() {
  const kept = await globalThis.caches?.open(KEPT).catch(() => undefined);
  const response = await kept?.match(receiver);
  if (!response) return undefined;
  await kept.delete(receiver);
  if (Date.now() - Number(response.headers.get("X-Received")) > MAX_AGE_MS) return undefined;
  const picture = await response.blob();
  return new File([picture], decodeURIComponent(response.headers.get("X-Name")), { type: picture.type });
}

/** Forget the picture that was shared with the site. */
export const forgetReceived = () => globalThis.caches?.delete(KEPT).catch(() => false);

// Others do not need it. A notification registers it where it does: see job_notifications.js.
if (matchMedia("(display-mode: standalone)").matches) register();
addEventListener("appinstalled", register);
