// The studio's jobs while they are made: queue position, steps with previews, and results, each from a stream of
// events.

// Browsers open six connections to a server over HTTP/1.1, for everything a page needs.
const MAX_STREAMS = 3;

const jobs = document.getElementById("jobs");
const waitingForStream = [];
let openStreams = 0;

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

/** Open streams for jobs, the first ones first. Those beyond MAX_STREAMS wait until another stream ends. */
function follow(...added) {
  waitingForStream.push(...added);
  while (openStreams < MAX_STREAMS && waitingForStream.length) {
    const job = waitingForStream.shift();
    if (!job.isConnected) continue;
    openStreams += 1;
    openStream(job, () => {
      openStreams -= 1;
      follow();
    });
  }
}

function openStream(job, onEnd) {
  const source = new EventSource(job.dataset.events);
  const bar = job.querySelector("progress");
  const status = job.querySelector("[data-status]");
  const on = (type, handle) => source.addEventListener(type, (event) => handle(JSON.parse(event.data)));
  let firstStep = null;

  on("queued", (data) => (status.textContent = queueStatus(data)));
  on("started", () => {
    status.textContent = "generating";
    announcement.textContent = "Generating.";
  });
  on("progress", ({ step, of, phase, percent }) => {
    bar.value = percent;
    if (phase !== "denoising") {
      status.textContent = phase;
      return;
    }
    firstStep ??= { step, time: performance.now() };
    status.textContent = `step ${step} of ${of}`;
    if (step > firstStep.step + 1) {
      const secondsPerStep = (performance.now() - firstStep.time) / 1000 / (step - firstStep.step);
      status.textContent += `, ${duration((of - step) * secondsPerStep)} left`;
    }
  });
  on("preview", ({ index, image }) => showPicture(job, index, image, "preview"));
  on("image", ({ index, url, nsfw }) => nsfw || showPicture(job, index, url, "result"));
  for (const [type, message] of Object.entries({
    succeeded: "Done.",
    failed: "Failed.",
    canceled: "Canceled.",
  })) {
    on(type, async () => {
      source.close();
      onEnd();
      await refresh(job);
      // The quota that is left has changed, and the estimate names it.
      document.getElementById("compose").dispatchEvent(new Event("change"));
      announcement.textContent = message;
    });
  }
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return;
    status.textContent = "live progress is unavailable; see Details";
    onEnd();
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

/** Replace a job by what the server shows of it now, once it has ended. */
async function refresh(job) {
  const response = await fetch(job.dataset.job);
  if (!response.ok) return job.remove();
  const replacement = parseJob(await response.text());
  if (replacement.dataset.events) return;
  // Decoded before it is shown, so that nothing flickers.
  await Promise.allSettled(Array.from(replacement.querySelectorAll("img"), (image) => image.decode()));
  const hadFocus = job.contains(document.activeElement);
  job.replaceWith(replacement);
  if (hadFocus) replacement.querySelector("a")?.focus();
}

/** Show a new job, from the server's HTML, and follow it. */
export function showJob(html) {
  const job = parseJob(html);
  if (document.getElementById(job.id)) return;
  jobs.prepend(job);
  if (job.dataset.events) follow(job);
  const reducesMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  job.scrollIntoView({ block: "nearest", behavior: reducesMotion ? "auto" : "smooth" });
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-cancel]");
  if (!form) return;
  event.preventDefault();
  form.querySelector("button").disabled = true;
  const body = new FormData(form);
  try {
    await fetch(form.action, { method: "POST", body, redirect: "manual" });
    // The stream of a running job says when it has ended; a job that waits for one has none.
    const job = form.closest(".job");
    if (waitingForStream.includes(job)) await refresh(job);
  } catch {
    form.querySelector("button").disabled = false;
  }
});

// The oldest first: they start first.
follow(...Array.from(jobs.querySelectorAll("[data-events]")).reverse());
