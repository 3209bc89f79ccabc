// The review desk: decisions without leaving the page, the next picture preloaded, and each picture blurred again by
// itself. Without this script the same forms work, one page a decision.
import { claimKeys, formData, showCounts } from "./review_counts.js";
import { blurPictures } from "./review_view.js";

const desk = document.getElementById("desk");
const preloaded = document.getElementById("ready");
const status = document.querySelector(".status");
let shownAt = performance.now();
let isDeciding = false;
let preloading = null;
/** The key of the claim that a request asks for now: it is released even if its answer is not seen any more. */
let keyInFlight = null;

const currentItem = () => desk.querySelector(".item");

async function preloadNext() {
  const { image, nextClaim } = currentItem().dataset;
  const body = formData([["exclude", image], ["claim", nextClaim]]);
  keyInFlight = nextClaim;
  try {
    const response = await fetch(desk.dataset.next, { method: "POST", body });
    preloaded.innerHTML = response.ok ? await response.text() : "";
  } catch {
    preloaded.innerHTML = ""; // the next decision then loads the page
  }
  keyInFlight = null;
}

function showNext() {
  const next = preloaded.querySelector(".item");
  blurPictures();
  if (!next) {
    location.assign(desk.dataset.empty);
    return;
  }
  desk.replaceChildren(next);
  history.replaceState(null, "", desk.dataset.empty); // a reload must not ask for the decided picture
  desk.tabIndex = -1;
  desk.focus({ preventScroll: true });
  shownAt = performance.now();
  preloading = preloadNext();
}

function showStatus(message, isError) {
  document.querySelector(".messagelist")?.remove(); // what an earlier page did, such as an undone decision
  status.textContent = message;
  status.classList.toggle("error", isError);
}

async function decide(form, submitter) {
  if (isDeciding) return;
  isDeciding = true;
  form.elements.seconds.value = ((performance.now() - shownAt) / 1000).toFixed(2);
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form, submitter),
      headers: { Accept: "application/json" },
    });
    if (response.redirected || response.status === 403) {
      location.reload(); // signed out, or signed in as somebody else: the page says what to do
      return;
    }
    const answer = await response.json();
    showCounts(answer);
    // An invalid decision (422) can be corrected; after any other answer the picture is decided.
    if (response.status !== 422) {
      await preloading;
      showNext();
    }
    showStatus(answer.message, !response.ok);
  } catch {
    showStatus("The server cannot be reached, and nothing was decided. Try again.", true);
  }
  isDeciding = false;
}

desk.addEventListener("submit", (event) => {
  if (!event.target.matches("form.decision")) return;
  event.preventDefault();
  decide(event.target, event.submitter);
});
// Opening the reasons moves the focus to the first of them.
desk.addEventListener("toggle", (event) => event.target.open && event.target.querySelector("button").focus(), true);
desk.addEventListener("keydown", (event) => {
  const reasons = event.key === "Escape" && desk.querySelector("details.reasons[open]");
  if (reasons) {
    reasons.open = false;
    reasons.querySelector("summary").focus();
  }
});
addEventListener("pagehide", () => {
  const inFlight = keyInFlight ? [["key", keyInFlight]] : [];
  navigator.sendBeacon(desk.dataset.release, formData(inFlight));
});
addEventListener("pageshow", (event) => event.persisted && location.reload());
// A picture that another reviewer claims is only shown: nothing can be decided about it, so no next one is needed.
if (claimKeys().length) preloading = preloadNext();
