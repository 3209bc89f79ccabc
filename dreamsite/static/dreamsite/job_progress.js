// The studio's jobs while they are made: queue position, steps with previews, and results, each from a stream of
// events. Whatever breaks, a job is followed until the server shows that it has ended.
import { notifyOfEnd, watchLength } from "./job_notifications.js";
import { showEnd, showPercent } from "./tab_title.js";

// Browsers open six connections to a server over HTTP/1.1, for everything a page needs.
const MAX_STREAMS = 3;

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
const REQUEST_MS = 15_000;

const jobs = document.getElementById("jobs");
const waitingForStream = [];
let openStreams = 0;
// The job that was added last, until its user does something else. It stays in view while it grows.
let watched = null;

const announcement = Object.assign(document.createElement("p"), { className: "hidden" });
announcement.setAttribute("role", "status");
document.body.append(announcement);

function duration(seconds) {
  return seconds < 100 ? `about ${Math.max(1, Math.round(seconds))} s` : `about ${Math.round(seconds / 60)} min`;
}

function queueStatus({ position, reason, estimated_start: start }) {
  if (position <= 1) return reason.replace(/\.$/, "");
  const startsIn = start ? `, starts in ${duration((new Date(start) - Date.now()) / 1000)}` : "";
  return `queue position ${position}${startsIn}`;
}

function showStatus(job, ...parts) {
  job.querySelector("[data-status]")?.replaceChildren(...parts);
}

function bringIntoView(job) {
  const reducesMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  job.scrollIntoView({ block: "nearest", behavior: reducesMotion ? "auto" : "smooth" });
}

/** Show a job as one that waits or one that runs, which is larger: its HTML has both looks. */
function showState(job, state) {
  if (job.classList.contains(state)) return;
  job.classList.toggle("queued", state === "queued");
  job.classList.toggle("running", state === "running");
  if (job === watched) bringIntoView(job);
}

/** Follow jobs, the first ones first. Those beyond MAX_STREAMS wait until another one has ended. */
function follow(...added) {
  waitingForStream.push(...added);
  for (const job of added) {
    showPercent(job.id, null);
    watchLength(job);
  }
  while (openStreams < MAX_STREAMS && waitingForStream.length) {
    const job = waitingForStream.shift();
    if (!job.isConnected) continue;
    openStreams += 1;
    followOne(job).finally(() => {
      openStreams -= 1;
      follow();
    });
  }
}

/** Read the job's stream and, whenever that ends, what the server shows of the job, until it has ended. */
async function followOne(job) {
  let pause = FIRST_PAUSE_MS;
  while (job.isConnected) {
    if (await readStream(job)) pause = FIRST_PAUSE_MS;
    if (await refresh(job)) return;
    await waitOrWake(pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

/** Wait, but no longer than until the network or the reader comes back. */
function waitOrWake(milliseconds) {
  return new Promise((resolve) => {
    const events = new AbortController();
    const wake = () => {
      clearTimeout(timer);
      events.abort();
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    addEventListener("online", wake, events);
    document.addEventListener("visibilitychange", () => document.hidden || wake(), events);
  });
}

/** Show the events of a job until its stream ends or breaks, and return whether there was any. */
function readStream(job) {
  const source = new EventSource(job.dataset.events);
  const bar = job.querySelector("progress");
  let hasEvent = false;
  let firstStep = null;

  return new Promise((resolve) => {
    const end = () => {
      source.close();
      removeEventListener("offline", end);
      resolve(hasEvent);
    };
    const on = (type, handle) =>
      source.addEventListener(type, (event) => {
        hasEvent = true;
        job.classList.remove("stopped");
        handle(JSON.parse(event.data));
      });
    on("queued", (data) => {
      showState(job, "queued");
      showPercent(job.id, null);
      showStatus(job, queueStatus(data));
    });
    on("started", () => {
      showState(job, "running");
      showPercent(job.id, 0);
      showStatus(job, "generating");
      announcement.textContent = "Generating.";
    });
    on("progress", ({ step, of, phase, percent }) => {
      showState(job, "running");
      showPercent(job.id, percent);
      bar.value = percent;
      if (phase !== "denoising") {
        showStatus(job, phase);
        return;
      }
      firstStep ??= { step, time: performance.now() };
      const steps = step - firstStep.step;
      const secondsPerStep = (performance.now() - firstStep.time) / 1000 / steps;
      const left = steps > 1 ? `, ${duration((of - step) * secondsPerStep)} left` : "";
      showStatus(job, `step ${step} of ${of}${left}`);
    });
    on("preview", ({ index, image }) => showPicture(job, index, image, "preview"));
    on("image", ({ index, url, nsfw }) => nsfw || showPicture(job, index, url, "result"));
    for (const type of ["succeeded", "failed", "canceled"]) on(type, end);
    source.addEventListener("error", end);
    addEventListener("offline", end);
  });
}

function showPicture(job, index, url, kind) {
  const frame = job.querySelector(`[data-frame="${index}"]`);
  if (!frame) return;
  const image = frame.querySelector("img") ?? frame.appendChild(new Image());
  image.alt = kind === "preview" ? "Preview" : "Result";
  image.className = kind;
  image.src = url;
}

function parseJob(html) {
  return document.importNode(new DOMParser().parseFromString(html, "text/html").querySelector(".job"), true);
}

/** Say why a job stands still: neither its bar nor the tab's title counts on, until there are events again. */
function showStopped(job, ...parts) {
  job.classList.add("stopped");
  showEnd(job.id, "");
  showStatus(job, ...parts);
}

/** Show what the server has of a job now, and return whether there is nothing more to follow. */
async function refresh(job) {
  let html;
  try {
    const response = await fetch(job.dataset.job, { redirect: "manual", signal: AbortSignal.timeout(REQUEST_MS) });
    if (response.type === "opaqueredirect") {
      const link = Object.assign(document.createElement("a"), { href: location.href, textContent: "sign in to see it" });
      showStopped(job, "You were signed out; ", link);
      return false;
    }
    if (response.status === 404) {
      job.remove();
      showEnd(job.id, "");
      return true;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    html = await response.text();
  } catch {
    showStopped(job, "Connection lost, trying again");
    return false;
  }
  const replacement = parseJob(html);
  if (replacement.dataset.events) {
    job.classList.remove("stopped");
    return false;
  }
  // Decoded before it is shown, so that nothing flickers.
  await Promise.allSettled(Array.from(replacement.querySelectorAll("img"), (image) => image.decode()));
  const hadFocus = job.contains(document.activeElement);
  job.replaceWith(replacement);
  htmx.process(replacement);
  if (hadFocus) replacement.querySelector("a")?.focus();
  announcement.textContent = replacement.dataset.end;
  showEnd(job.id, replacement.dataset.end);
  notifyOfEnd(replacement);
  // The quota that is left has changed, and the estimate names it.
  document.getElementById("compose").dispatchEvent(new Event("end"));
  return true;
}

/** Show a new job, from the server's HTML, follow it, and return the id of its generation. */
export function showJob(html) {
  const job = parseJob(html);
  const { generation } = job.dataset;
  if (document.getElementById(job.id)) return generation;
  addJob(job);
  htmx.process(job);
  if (job.dataset.events) follow(job);
  return generation;
}

/** Add a job above the others, and bring it into view. */
export function addJob(job) {
  jobs.prepend(job);
  watched = job;
  bringIntoView(job);
}

for (const type of ["wheel", "pointerdown", "keydown"]) addEventListener(type, () => (watched = null), { passive: true });

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-cancel]");
  if (!form) return;
  event.preventDefault();
  form.querySelector("button").disabled = true;
  const body = new FormData(form);
  try {
    const response = await fetch(form.action, { method: "POST", body, redirect: "manual" });
    if (response.type !== "opaqueredirect") throw new Error(`status ${response.status}`);
    // The stream of a running job says when it has ended; a job that waits for one has none.
    const job = form.closest(".job");
    if (waitingForStream.includes(job)) await refresh(job);
  } catch {
    form.querySelector("button").disabled = false;
  }
});

// The oldest first: they start first.
follow(...Array.from(jobs.querySelectorAll("[data-events]")).reverse());
