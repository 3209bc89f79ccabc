// The form as it was left: fields and picture are kept whenever they change, and come back with the page's plain
// address. What a link fills in comes first; once it is changed, it is the draft.
import { forget, readDraft, readFile, writeDraft, writeFile } from "./drafts.js";
import { chosenPicture, showFile, showOwn } from "./picture_input.js";

const form = document.getElementById("compose");
const { account } = form.dataset;
const NOT_KEPT = ["hidden", "file", "submit", "button"];

// The picture of a draft that is being restored: what is written in the meantime does not lose it.
let pending = null;
// The chosen file, and its id among the drafts' files.
let kept = { file: null, id: null };
let areFieldsRestored = true;

const controls = () => Array.from(form.elements).filter(({ name, type }) => name && !NOT_KEPT.includes(type));
const valueOf = (control) => (control.type === "checkbox" ? control.checked : control.value);

function keep() {
  if (!areFieldsRestored) return;
  const values = Object.fromEntries(controls().map((control) => [control.name, valueOf(control)]));
  const { file, stored } = chosenPicture();
  writeDraft(account, { values, ...(pending ?? { stored, fileId: file && file === kept.file ? kept.id : null }) });
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

async function keepPicture() {
  pending = null;
  const { file } = chosenPicture();
  if (file && file !== kept.file) {
    const id = await writeFile(file);
    if (file !== chosenPicture().file) return;
    kept = { file, id };
  }
  keep();
}

async function readKept(id) {
  kept = { file: await readFile(id), id };
  return kept.file;
}

async function restore({ values, stored, fileId }) {
  pending = { stored, fileId };
  // The model first: it decides which of the others have an effect.
  const all = controls().sort((one, other) => (other.name === "model_id") - (one.name === "model_id"));
  areFieldsRestored = false;
  for (const control of all) if (control.name in values) set(control, values[control.name]);
  areFieldsRestored = true;
  if (stored) await showOwn(stored);
  else if (fileId) await showFile(() => readKept(fileId));
  pending = null;
}

export function startDraft() {
  const draft = location.search ? null : readDraft(account);
  if (draft) restore(draft);
  for (const type of ["input", "change"]) form.addEventListener(type, keep);
  form.addEventListener("picture", keepPicture);
  document.getElementById("start-over").addEventListener("click", () => forget(account));
}
