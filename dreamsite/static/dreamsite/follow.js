// Follows what is being made: its place in the line, its steps with previews, and its results, in place.
{
  const jobs = document.getElementById("jobs");
  // Browsers open six connections to a server of HTTP/1.1, for all that a page wants of it.
  const MOST_STREAMS = 3;
  const later = [];
  let streams = 0;
  const said = Object.assign(document.createElement("p"), { className: "hidden" });
  said.setAttribute("role", "status");

  const seconds = (count) =>
    count < 100 ? `about ${Math.max(1, Math.round(count))} s` : `about ${Math.round(count / 60)} min`;

  function waits({ position, reason, estimated_start: start }) {
    if (position > 1 && start) return `place ${position} in the line, starts in ${seconds((new Date(start) - Date.now()) / 1000)}`;
    return position > 1 ? `place ${position} in the line` : reason.replace(/\.$/, "");
  }

  // The oldest first: they start first.
  function follow(...added) {
    later.push(...added);
    while (streams < MOST_STREAMS && later.length) {
      const job = later.shift();
      if (!job.isConnected) continue;
      streams += 1;
      stream(job, () => {
        streams -= 1;
        follow();
      });
    }
  }

  function stream(job, ended) {
    const source = new EventSource(job.dataset.events);
    const bar = job.querySelector("progress");
    const words = job.querySelector("[data-words]");
    let first = null;

    const on = (name, heard) => source.addEventListener(name, (event) => heard(JSON.parse(event.data)));
    const picture = (index, url, kind) => {
      const frame = job.querySelector(`[data-frame="${index}"]`);
      if (!frame) return;
      const image = frame.querySelector("img") ?? frame.appendChild(new Image());
      image.alt = kind === "preview" ? "What it is becoming" : "A result";
      image.className = kind;
      image.src = url;
    };

    on("queued", (data) => (words.textContent = waits(data)));
    on("started", () => {
      words.textContent = "being made";
      said.textContent = "It is being made.";
    });
    on("progress", ({ step, of, phase, percent }) => {
      bar.value = percent;
      if (phase !== "denoising") {
        words.textContent = phase;
        return;
      }
      first ??= { step, at: performance.now() };
      const took = (performance.now() - first.at) / 1000;
      const left = step > first.step + 1 ? ((of - step) * took) / (step - first.step) : null;
      words.textContent = `step ${step} of ${of}` + (left === null ? "" : `, ${seconds(left)} left`);
    });
    on("preview", ({ index, image }) => picture(index, image, "preview"));
    on("image", ({ index, url, nsfw }) => nsfw || picture(index, url, "result"));
    for (const end of ["succeeded", "failed", "canceled"]) {
      on(end, async () => {
        source.close();
        ended();
        await refresh(job);
        // What is left to spend has changed.
        document.getElementById("compose")?.dispatchEvent(new Event("change"));
        said.textContent = { succeeded: "It is done.", failed: "It failed.", canceled: "It was canceled." }[end];
      });
    }
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      words.textContent = "cannot be followed now; look at its page";
      ended();
    });
  }

  const parsed = (html) => new DOMParser().parseFromString(html, "text/html").querySelector(".job");

  // Puts what the server shows of it now in its place, once it has ended.
  async function refresh(job) {
    const answer = await fetch(job.dataset.job);
    if (!answer.ok) return job.remove();
    const next = document.importNode(parsed(await answer.text()), true);
    if (next.dataset.events) return;
    // Decoded before it is shown, so that nothing flickers.
    await Promise.allSettled(Array.from(next.querySelectorAll("img"), (image) => image.decode()));
    const held = job.contains(document.activeElement);
    job.replaceWith(next);
    if (held) next.querySelector("a")?.focus();
  }

  // For the studio's form: a new one, from the server's answer.
  window.showJob = (html) => {
    const job = document.importNode(parsed(html), true);
    if (document.getElementById(job.id)) return;
    jobs.prepend(job);
    if (job.dataset.events) follow(job);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    job.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("[data-cancel]");
    if (!form) return;
    event.preventDefault();
    form.querySelector("button").disabled = true;
    const body = new FormData(form);
    try {
      await fetch(form.action, { method: "POST", body, redirect: "manual" });
      // Of what runs its stream tells the end.
      const job = form.closest(".job");
      if (later.includes(job)) await refresh(job);
    } catch {
      form.querySelector("button").disabled = false;
    }
  });

  if (jobs) {
    document.body.append(said);
    follow(...Array.from(jobs.querySelectorAll("[data-events]")).reverse());
  }
}
