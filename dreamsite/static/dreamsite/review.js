// The review cockpit: decisions without leaving the page, the next picture ready, everything veiled again by itself.
// Without this the same forms work, one page a decision.
{
  const desk = document.getElementById("desk");
  const ready = document.getElementById("ready");
  const told = document.querySelector(".told");
  const lights = ["unveil", "colour"].map((id) => document.getElementById(id));
  let since = performance.now();
  let busy = false;
  let coming = null; // the request for the next picture

  const item = () => desk.querySelector(".item");
  const claims = () => [...document.querySelectorAll(".item[data-claim]")].map((shown) => shown.dataset.claim).filter(Boolean);

  function form(fields) {
    const data = new FormData();
    // Of the form to take back, which is there whatever is shown: the token, and what the reviewer chose to see.
    for (const input of document.querySelectorAll("form.undo input[type=hidden]")) data.append(input.name, input.value);
    for (const key of claims()) data.append("key", key);
    for (const [name, value] of fields) data.append(name, value);
    return data;
  }

  function veil() {
    for (const light of lights) light.checked = false;
  }

  async function prepare() {
    const besides = item() ? [["besides", item().dataset.image]] : [];
    try {
      const answer = await fetch(desk.dataset.next, { method: "POST", body: form(besides) });
      ready.innerHTML = answer.ok ? await answer.text() : "";
    } catch {
      ready.innerHTML = ""; // the next decision loads a page
    }
  }

  function show() {
    const next = ready.querySelector(".item");
    veil();
    if (!next) {
      location.assign(desk.dataset.empty);
      return;
    }
    desk.replaceChildren(next);
    history.replaceState(null, "", desk.dataset.empty); // loaded again, it is not the picture that is decided
    desk.tabIndex = -1;
    desk.focus({ preventScroll: true });
    since = performance.now();
    coming = prepare();
  }

  async function decide(sent, submitter) {
    if (busy) return;
    busy = true;
    sent.elements.seconds.value = ((performance.now() - since) / 1000).toFixed(2);
    try {
      const answer = await fetch(sent.action, {
        method: "POST",
        body: new FormData(sent, submitter),
        headers: { Accept: "application/json" },
      });
      if (answer.redirected || answer.status === 403) {
        location.reload(); // signed out meanwhile, or in as somebody else: the page itself says what to do
        return;
      }
      const { said } = await answer.json();
      // What was not understood can be corrected; what somebody else decided is over.
      if (answer.status !== 422) {
        await coming;
        show();
      }
      told.textContent = said;
      told.classList.toggle("lost", !answer.ok);
    } catch {
      told.textContent = "The service could not be reached, so nothing was decided. Try again.";
      told.classList.add("lost");
    }
    busy = false;
  }

  if (desk) {
    desk.addEventListener("submit", (event) => {
      if (!event.target.matches("form.verdict")) return;
      event.preventDefault();
      decide(event.target, event.submitter);
    });
    // R opens the reasons and goes to the first of them.
    desk.addEventListener("toggle", (event) => event.target.open && event.target.querySelector("button").focus(), true);
    desk.addEventListener("keydown", (event) => {
      const open = event.key === "Escape" && desk.querySelector("details.why[open]");
      if (open) {
        open.open = false;
        open.querySelector("summary").focus();
      }
    });
    window.addEventListener("blur", veil);
    document.addEventListener("visibilitychange", () => document.hidden && veil());
    window.addEventListener("pagehide", () => navigator.sendBeacon(desk.dataset.leave, form([])));
    window.addEventListener("pageshow", (event) => event.persisted && location.reload());
    // Where somebody else looks at the picture, this page decides nothing and needs no next one.
    if (claims().length) coming = prepare();
  }
}
