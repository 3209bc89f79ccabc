// The studio's picture: chosen, dropped or pasted, and shown at its own size. The form gets a "picture" event when it
// changes.
import { contentsOf, fetchOther, fetchOwn, fetchStored } from "./dropped_picture.js";
import { isPicture } from "./picture_kinds.js";

const drop = document.getElementById("drop");
const input = document.getElementById("image");
const form = document.getElementById("compose");
const caption = () => document.getElementById("picture-caption");
const megabytes = (bytes, digits) => (bytes / 2 ** 20).toFixed(digits);
const isAccepted = (file) => isPicture(file, input.accept.split(","));
let current = null;
let lastChoice = 0;

/** Show what is wrong with the picture; an empty message removes it. */
export function showError(message) {
  const errors = document.getElementById("image-errors");
  errors.replaceChildren(...(message ? [Object.assign(document.createElement("li"), { textContent: message })] : []));
  drop.classList.toggle("invalid", Boolean(message));
}

function setSize(width, height) {
  drop.dataset.width = width;
  drop.dataset.height = height;
  drop.style.setProperty("--w", width);
  drop.style.setProperty("--h", height);
  caption().textContent = `${width} × ${height}`;
}

/** Put the current picture, if any, back into the file field. */
function restoreInput() {
  const transfer = new DataTransfer();
  if (current) transfer.items.add(current);
  input.files = transfer.files;
}

function removePicture() {
  const previous = drop.querySelector("img");
  if (previous?.src.startsWith("blob:")) URL.revokeObjectURL(previous.src);
  drop.querySelectorAll("img, .unshown").forEach((part) => part.remove());
  document.querySelector("[data-stored]")?.remove();
  drop.classList.remove("flagged");
}

/** Return what stands for a picture that the browser cannot show: the server knows more formats, and decides. */
function placeholder(file) {
  const part = Object.assign(document.createElement("p"), { className: "unshown" });
  const name = Object.assign(document.createElement("strong"), { textContent: file.name });
  part.append(name, "This browser cannot show it, but it can be sent.");
  return part;
}

function problemOf(file, isKnown) {
  const { maxBytes, kinds } = drop.dataset;
  if (file.size > maxBytes) {
    return `This file is ${megabytes(file.size, 1)} MB; the limit is ${megabytes(maxBytes, 0)} MB.`;
  }
  return isKnown ? "" : `${file.name} is no picture that can be used. Choose a ${kinds} file.`;
}

async function show(file) {
  const choice = ++lastChoice;
  const problem = problemOf(file, await isAccepted(file).catch(() => false));
  if (choice !== lastChoice) return;
  showError(problem);
  if (problem) {
    restoreInput();
    return;
  }
  const image = new Image();
  image.alt = `Input picture: ${file.name}`;
  image.src = URL.createObjectURL(file);
  const isShown = await image.decode().then(() => true, () => false);
  if (choice !== lastChoice) return;
  current = file;
  restoreInput();
  removePicture();
  if (isShown) {
    image.width = image.naturalWidth;
    image.height = image.naturalHeight;
    setSize(image.naturalWidth, image.naturalHeight);
    drop.prepend(image);
  } else {
    setSize(3, 2);
    delete drop.dataset.width;
    caption().textContent = "";
    drop.prepend(placeholder(file));
  }
  drop.classList.add("filled");
  form.dispatchEvent(new Event("picture"));
}

/** Show a picture that the server has, from its HTML. */
function showStored(html) {
  const stored = new DOMParser().parseFromString(html, "text/html");
  const picture = document.importNode(stored.querySelector("#drop"), true);
  lastChoice += 1;
  current = null;
  restoreInput();
  showError("");
  removePicture();
  drop.className = picture.className;
  drop.replaceChildren(...picture.childNodes);
  document.querySelector(".input-actions").append(document.importNode(stored.querySelector("[data-stored]"), true));
  setStoredSize();
  form.dispatchEvent(new Event("picture"));
}

function setStoredSize() {
  const image = drop.querySelector("img");
  if (image) setSize(image.getAttribute("width"), image.getAttribute("height"));
}

/** Return the picture that the form sends: a file, or the fields that name a stored picture. */
export function chosenPicture() {
  const fields = Array.from(document.querySelectorAll("[data-stored] input"), ({ name, value }) => [name, value]);
  return { file: current, stored: fields.length ? Object.fromEntries(fields) : null };
}

/** Show the file that `find` returns, if any, unless another picture is chosen in the meantime. */
export async function showFile(find) {
  const choice = ++lastChoice;
  try {
    const file = await find();
    if (file && choice === lastChoice) await show(file);
  } catch {
    if (choice === lastChoice) showError("The server cannot be reached. Try again.");
  }
}

/** Show the stored picture that these fields name, unless it is gone or another picture is chosen in the meantime. */
export async function showOwn(fields) {
  const choice = ++lastChoice;
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  const html = await fetchStored(drop.dataset.storedPicture, body, form).catch(() => null);
  if (html && choice === lastChoice) showStored(html);
}

/** Use the first of these files that is a picture; else show what is wrong with the first. */
async function useFiles(files) {
  for (const file of files) if (await isAccepted(file).catch(() => false)) return show(file);
  return show(files[0]);
}

/** Use what was dropped or pasted: a picture of one's own by its address, a file, or a picture of another site. */
async function use({ files, addresses }) {
  const choice = ++lastChoice;
  drop.setAttribute("aria-busy", "true");
  try {
    const own = await fetchOwn(drop.dataset.storedPicture, addresses, form);
    if (choice !== lastChoice) return;
    if (own) return showStored(own);
    if (files.length) return await useFiles(files);
    const other = await fetchOther(addresses, isAccepted);
    if (choice !== lastChoice) return;
    if (other) return await show(other);
    showError(`There was no picture in it. Drop a picture, or a ${drop.dataset.kinds} file.`);
  } catch (error) {
    if (choice === lastChoice) showError(error.message);
  } finally {
    drop.removeAttribute("aria-busy");
  }
}

// Drag and drop
//
// Without a handler, a drop anywhere beside a text field leads the browser to the file or address. So all of them are
// taken, except text that is dropped into a text field.

let dragged = null;

const isText = (transfer) => !["Files", "text/uri-list"].some((type) => transfer.types.includes(type));
const isTextField = (target) => Boolean(target.closest?.("textarea, input:not([type=file], [type=range])"));
const isForField = (event) => isText(event.dataTransfer) && isTextField(event.target);

document.addEventListener("dragstart", (event) => (dragged = event.target));
document.addEventListener("dragend", () => (dragged = null));
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer || isForField(event)) return;
    event.preventDefault();
    drop.classList.toggle("dragover", !isText(event.dataTransfer));
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("dragover"));
document.addEventListener("drop", (event) => {
  drop.classList.remove("dragover");
  if (!event.dataTransfer || isForField(event)) return;
  event.preventDefault();
  // A click that slips is a drag that ends where it began.
  if (!dragged?.contains(event.target)) use(contentsOf(event.dataTransfer));
});
document.addEventListener("paste", (event) => {
  const contents = event.clipboardData && contentsOf(event.clipboardData);
  // Spreadsheets and word processors put a picture of the text beside it.
  const isWriting = isTextField(event.target) && event.clipboardData.types.includes("text/plain");
  if (!contents || isWriting || !(contents.files.length || contents.addresses.length)) return;
  event.preventDefault();
  use(contents);
});

// Some browsers empty the field when their dialog is canceled.
input.addEventListener("change", () => (input.files.length ? show(input.files[0]) : restoreInput()));
setStoredSize();
// Browsers keep the chosen file when one comes back to the page.
if (input.files.length) show(input.files[0]);
