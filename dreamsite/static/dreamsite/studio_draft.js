// The form as it was left: fields and pictures are kept whenever they change, and come back with the page's plain
// address. What a link fills in comes first; once it is changed, it is the draft.
import { forget, readDraft, readFile, writeDraft, writeFile } from "./drafts.js";
import { takeReceived } from "./installed.js";
import { chosenMask, showMask } from "./mask_input.js";
import { chosenPicture, showError, showFile, showOwn } from "./picture_input.js";
import { chosenReferences, setReferences } from "./references_input.js";

const form = document.getElementById("compose");
const { account } = form.dataset;
const NOT_KEPT = ["hidden", "file", "submit", "button"];

// What of a draft is being restored: what is written in the meantime does not lose it.
let pending = {};
// What was chosen last, and its id in its store.
const kept = Object.fromEntries(["pictures", "masks", "references"].map((store) => [store, { file: null, id: null }]));
let areFieldsRestored = true;

const controls = () => Array.from(form.elements).filter(({ name, type }) => name && !NOT_KEPT.includes(type));
const valueOf = (control) => (control.type === "checkbox" ? control.checked : control.value);
const chosen = {
  pictures: () => chosenPicture().file,
  masks: () => chosenMask()?.file ?? null,
  references: () => (chosenReferences().length ? chosenReferences() : null),
};
const keptId = (store) => (chosen[store]() === kept[store].file ? kept[store].id : null);

function keep() {
  if (!areFieldsRestored) return;
  const values = Object.fromEntries(controls().map((control) => [control.name, valueOf(control)]));
  const files = {
    stored: chosenPicture().stored,
    fileId: keptId("pictures"),
    maskId: keptId("masks"),
    referencesId: keptId("references"),
  };
  writeDraft(account, { values, ...files, ...pending });
  if (location.search) history.replaceState(history.state, "", location.pathname);
}

/** Set a control as if its user did, so that everything that depends on it follows. */
function set(control, value) {
  const isOffered = control.type !== "select-one" || Array.from(control.options).some((option) => option.value === value);
  if (!isOffered || valueOf(control) === value) return;
  if (control.type === "checkbox") control.checked = value;
  else control.value = value;
  control.closest("details")?.setAttribute("open", "");
  for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, { bubbles: true }));
}

/** Store what is chosen, unless it is stored already, and keep the form with it. */
async function keepFile(store) {
  const file = chosen[store]();
  if (file && file !== kept[store].file) {
    const id = await writeFile(store, file);
    if (file !== chosen[store]()) return;
    kept[store] = { file, id };
  }
  keep();
}

function keepPicture() {
  delete pending.stored;
  delete pending.fileId;
  keepFile("pictures");
}

async function readKept(store, id) {
  kept[store] = { file: await readFile(store, id), id };
  return kept[store].file;
}

async function restore({ values, stored, fileId, maskId, referencesId }) {
  pending = { stored, fileId, maskId, referencesId };
  // The model first: it decides which of the others have an effect.
  const all = controls().sort((one, other) => (other.name === "model_id") - (one.name === "model_id"));
  areFieldsRestored = false;
  for (const control of all) if (control.name in values) set(control, values[control.name]);
  areFieldsRestored = true;
  if (stored) await showOwn(stored);
  else if (fileId) await showFile(() => readKept("pictures", fileId));
  const isRestored = chosenPicture().file === kept.pictures.file;
  const mask = maskId && isRestored && (await readKept("masks", maskId));
  if (mask) await showMask(mask);
  const references = referencesId && (await readKept("references", referencesId));
  if (references) setReferences(references);
  pending = {};
}

/** Show the picture that was shared with the installed site, in place of the draft's. */
async function receive(draft) {
  const file = await takeReceived();
  if (draft) await restore(file ? { values: draft.values } : draft);
  if (file) await showFile(() => file);
  else showError("The shared picture did not arrive. Share it again, or choose it here.");
}

export function startDraft() {
  const isReceiving = new URLSearchParams(location.search).has("received");
  const draft = location.search && !isReceiving ? null : readDraft(account);
  if (isReceiving) receive(draft);
  else if (draft) restore(draft);
  for (const type of ["input", "change"]) form.addEventListener(type, keep);
  form.addEventListener("picture", keepPicture);
  form.addEventListener("mask", () => keepFile("masks"));
  form.addEventListener("references", () => keepFile("references"));
  document.getElementById("start-over").addEventListener("click", () => forget(account));
}
