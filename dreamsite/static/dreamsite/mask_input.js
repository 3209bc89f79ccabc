// The mask of the studio's picture: the form's file, shown over the picture, and edited in a dialog. The form gets a "mask"
// event when it changes.
import { isReadable } from "./canvases.js";
import { MaskCanvas } from "./mask_canvas.js";
import { edit } from "./mask_editor.js";
import { openShare } from "./mask_words.js";

const form = document.getElementById("compose");
const drop = document.getElementById("drop");
const input = document.getElementById("mask");
const part = document.getElementById("mask-input");
const byCommand = (command) => part.querySelector(`[data-mask-input="${command}"]`);
const words = byCommand("words");
const models = JSON.parse(document.getElementById("model-behaviour").textContent);
const NOTHING = { share: 0, box: [0, 0, 0, 0] };

let mask = null;
let measured = NOTHING;
// The last mask, after it was removed or went with its picture. It can be put back.
let removed = null;

const picture = () => drop.querySelector("img:not(.open-part)");

/** Return whether the form names a stored mask, as pages without scripts do. */
const isStored = () => Boolean(part.querySelector("[name=mask_from]"));

/** Return the file of the mask, or null, with the box around what may change, in pixels of the picture. */
export function chosenMask() {
  const [file] = input.files;
  return file ? { file, box: measured.box } : null;
}

function setFile(file) {
  const transfer = new DataTransfer();
  if (file) transfer.items.add(file);
  input.files = transfer.files;
}

function wordsOf(hasMask, image) {
  const rest = measured.share < 1 ? " The rest stays as it is, pixel by pixel." : "";
  if (hasMask && image) return `${openShare(measured.share)}${rest}`;
  if (models[form.elements.model_id.value].needs_mask) return "This model fills in a part: mark what may change.";
  return removed && image ? "The mask is removed." : "";
}

function describe() {
  const image = picture();
  const hasMask = input.files.length > 0;
  part.hidden = !drop.classList.contains("filled");
  part.classList.toggle("masked", hasMask);
  // What the browser cannot show cannot be painted on.
  part.classList.toggle("unshown", !image);
  byCommand("edit").hidden = !image;
  byCommand("edit").querySelector("span").textContent = hasMask ? "Change the mask" : "Change a part only";
  for (const field of part.querySelectorAll("[type=number]")) field.disabled = !hasMask && !isStored();
  byCommand("remove").hidden = !hasMask;
  byCommand("restore").hidden = hasMask || !removed || !image;
  words.textContent = wordsOf(hasMask, image);
}

/** Take the mask from the picture, but not from the form. */
function hide() {
  drop.querySelectorAll(".mask-canvas, .open-part").forEach((each) => each.remove());
  // It names a stored mask, for pages without scripts.
  part.querySelector("[name=mask_from]")?.remove();
}

function announce() {
  describe();
  form.dispatchEvent(new Event("mask"));
}

function set(newMask, file) {
  hide();
  mask = newMask;
  measured = mask.measure();
  removed = null;
  setFile(file);
  drop.append(mask.canvas);
  announce();
}

function remove() {
  hide();
  mask = null;
  measured = NOTHING;
  setFile(null);
  announce();
}

/** Remove the mask, if there is one, so that it can be put back. */
function discard() {
  if (mask) removed = input.files[0];
  remove();
}

/** Show a file as the mask of the picture. What the browser cannot read is sent as it is. */
export async function showMask(file) {
  const image = picture();
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (picture() !== image) return;
  if (!image || !bitmap) {
    setFile(file);
    announce();
    return;
  }
  const loaded = new MaskCanvas(image.naturalWidth, image.naturalHeight);
  loaded.addPicture(bitmap);
  bitmap.close();
  set(loaded, file);
}

async function startEditing() {
  const image = picture();
  if (!isReadable()) {
    words.textContent = "Your browser hides what is painted. Choose a mask file instead.";
    part.classList.add("unshown");
    return;
  }
  await image.decode();
  const edited = mask ?? new MaskCanvas(image.naturalWidth, image.naturalHeight);
  edit(edited, image, {
    isFlagged: drop.classList.contains("flagged"),
    async onDone() {
      if (picture() !== image) return;
      if (edited.measure().share) set(edited, await edited.toFile());
      else discard();
      byCommand("edit").focus();
    },
  });
}

/** Load the mask of an earlier request, which the page shows as a picture. */
async function loadStored() {
  const shown = drop.querySelector(".open-part");
  if (!shown) return;
  const image = picture();
  try {
    const response = await fetch(shown.dataset.mask);
    const file = new File([await response.blob()], "mask.png", { type: "image/png" });
    await image.decode();
    if (response.ok && picture() === image) await showMask(file);
  } catch {
    // It is still named by the form, and sent.
    describe();
  }
}

form.elements.model_id.addEventListener("change", describe);
// The numbers are outside of the form's element.
part.querySelector(".mask-options").addEventListener("input", () => form.dispatchEvent(new Event("input")));
form.addEventListener("picture", discard);
input.addEventListener("change", () => (input.files.length ? showMask(input.files[0]) : remove()));
byCommand("edit").addEventListener("click", startEditing);
byCommand("remove").addEventListener("click", () => {
  removed = input.files[0];
  remove();
  byCommand("edit").focus();
});
byCommand("restore").addEventListener("click", async () => {
  await showMask(removed);
  byCommand("edit").focus();
});
describe();
loadStored();
