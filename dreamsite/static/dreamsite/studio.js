// The studio's form, submitted without leaving the page.
import { showJob } from "./job_progress.js";
import "./picture_input.js";
import { startReduction } from "./picture_reduction.js";
import { startDraft } from "./studio_draft.js";
import { startEstimates } from "./studio_estimate.js";
import { applyDefaults, startParameters } from "./studio_parameters.js";
import { isJson, send } from "./studio_request.js";
import { UploadCanceled, UploadLost } from "./studio_upload.js";

const form = document.getElementById("compose");
const byId = (id) => document.getElementById(id);

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** On phones, show the fields beneath the model, or fold them away. */
function showAdjustments(isShown) {
  byId("adjust").setAttribute("aria-expanded", String(isShown));
}

/** Show a control whatever it is folded into. */
function unfold(control) {
  control.closest("details")?.setAttribute("open", "");
  if (byId("adjustments").contains(control)) showAdjustments(true);
}

/** Show the errors of each field ("" is the whole form), clear all others, and focus the first invalid field. */
function showErrors(errors) {
  for (const list of document.querySelectorAll("[data-errors]")) {
    const name = list.dataset.errors;
    const messages = errors[name] ?? [];
    const [tag, className] = name ? ["li", ""] : ["p", "note-error"];
    list.replaceChildren(
      ...messages.map((message) => Object.assign(document.createElement(tag), { textContent: message, className })),
    );
    list.closest(".field, .axis")?.classList.toggle("invalid", messages.length > 0);
    const control = name && (name === "image" ? byId("image") : form.elements[name]);
    if (control instanceof HTMLElement) control.setAttribute("aria-invalid", String(messages.length > 0));
  }
  byId("drop").classList.toggle("invalid", Boolean(errors.image));
  const firstInvalid = byId(Object.keys(errors).find((name) => name) ?? "");
  if (firstInvalid) {
    unfold(firstInvalid);
    firstInvalid.focus();
  }
}

/** Clear the errors of a field that is being corrected. */
function clearErrors(event) {
  const list = event.target.id && byId(`${event.target.id}-errors`);
  if (!list) return;
  list.replaceChildren();
  event.target.setAttribute("aria-invalid", "false");
  event.target.closest(".invalid")?.classList.remove("invalid");
}

function showSignIn() {
  showErrors({ "": ["You were signed out. What is written here is kept: "] });
  const link = Object.assign(document.createElement("a"), { href: form.dataset.signIn, textContent: "sign in" });
  document.querySelector('[data-errors=""] p').append(link, ", here or in another tab, and press Generate again.");
}

async function showResponse({ response, noteGeneration }) {
  if (response.isRedirected) {
    showSignIn();
  } else if (response.status === 201 && !isJson(response)) {
    showErrors({});
    noteGeneration(showJob(await response.text()));
    form.elements.key.value = randomKey();
  } else if (response.status === 201) {
    // The browser may keep this page for the back button: its next contact sheet is another request.
    form.elements.key.value = randomKey();
    location.assign((await response.json()).location);
  } else if (response.status === 413) {
    showErrors({ image: ["The picture is too large; choose a smaller one."] });
  } else if (isJson(response)) {
    showErrors((await response.json()).errors);
  } else {
    const cookies = "Your browser refuses the cookies of this site. Allow them and press Generate again.";
    showErrors({ "": [response.status === 403 ? cookies : "Something went wrong. Try again; nothing here is lost."] });
  }
}

function messageOf(error) {
  if (error instanceof UploadCanceled) return "";
  if (error instanceof UploadLost) return "The connection was lost. Nothing here is lost; press Generate to send it again.";
  return "The server cannot be reached. Try again.";
}

async function submit(event) {
  event.preventDefault();
  if (form.dataset.busy) return;
  form.dataset.busy = "1";
  applyDefaults();
  const submitter = event.submitter?.name ? event.submitter : null;
  const button = submitter ?? byId("generate");
  button.setAttribute("aria-disabled", "true");
  try {
    await showResponse(await send(submitter));
  } catch (error) {
    showErrors({ "": [messageOf(error)].filter(Boolean) });
  } finally {
    delete form.dataset.busy;
    button.removeAttribute("aria-disabled");
  }
}

function useExamplePrompt(event) {
  const link = event.target.closest("[data-prompt]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const prompt = byId("prompt");
  prompt.value = link.dataset.prompt;
  link.closest("details").open = false;
  prompt.focus();
  prompt.dispatchEvent(new Event("input", { bubbles: true }));
}

if (/Mac|iPhone|iPad/.test(navigator.platform)) {
  byId("generate-key").textContent = "⌘ ↵";
  document.querySelector('[data-key-hint="Ctrl ↵"]').dataset.keyHint = "⌘ ↵";
}
startParameters();
startDraft();
startReduction();
startEstimates();
form.addEventListener("submit", submit);
document.addEventListener("input", clearErrors);
form.addEventListener("click", useExamplePrompt);
// The browser says what is wrong with a field only where the field can be seen. Those of the mask are not within the form.
document.addEventListener("invalid", (event) => unfold(event.target), true);
byId("adjust").addEventListener("click", ({ currentTarget }) =>
  showAdjustments(currentTarget.getAttribute("aria-expanded") === "false"),
);
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(byId("generate"));
});
