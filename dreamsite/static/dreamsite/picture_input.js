// The studio's picture: chosen, dropped or pasted, and shown at its own size. The form gets a "picture" event when it
// changes.

const drop = document.getElementById("drop");
const input = document.getElementById("image");
const form = document.getElementById("compose");
const caption = document.getElementById("picture-caption");
const megabytes = (bytes, digits) => (bytes / 2 ** 20).toFixed(digits);
let current = null;

function showError(message) {
  const errors = document.getElementById("image-errors");
  errors.replaceChildren(...(message ? [Object.assign(document.createElement("li"), { textContent: message })] : []));
  drop.classList.toggle("invalid", Boolean(message));
}

function setSize(width, height) {
  drop.dataset.width = width;
  drop.dataset.height = height;
  drop.style.setProperty("--w", width);
  drop.style.setProperty("--h", height);
  caption.textContent = `${width} × ${height}`;
}

/** Put the current picture, if any, back into the file field. */
function restoreInput() {
  const transfer = new DataTransfer();
  if (current) transfer.items.add(current);
  input.files = transfer.files;
}

function replaceImage(image) {
  const previous = drop.querySelector("img");
  if (previous?.src.startsWith("blob:")) URL.revokeObjectURL(previous.src);
  previous?.remove();
  if (image) drop.prepend(image);
  drop.classList.remove("flagged");
  drop.classList.toggle("filled", Boolean(image));
}

async function show(file) {
  const maxBytes = Number(form.dataset.maxBytes);
  if (file.size > maxBytes) {
    restoreInput();
    showError(`This file is ${megabytes(file.size, 1)} MB; the limit is ${megabytes(maxBytes, 0)} MB.`);
    return;
  }
  current = file;
  showError("");
  // An upload replaces the stored picture.
  form.querySelectorAll("[data-stored]").forEach((field) => (field.disabled = true));
  document.querySelector(".input-actions .input-source")?.remove();
  const image = new Image();
  image.alt = `Input picture: ${file.name}`;
  image.src = URL.createObjectURL(file);
  const isShown = await image.decode().then(() => true, () => false);
  if (file !== current) return;
  if (isShown) {
    image.width = image.naturalWidth;
    image.height = image.naturalHeight;
    setSize(image.naturalWidth, image.naturalHeight);
    replaceImage(image);
  } else {
    // The server knows more formats than browsers do, and decides.
    delete drop.dataset.width;
    replaceImage(null);
    caption.textContent = `${file.name}: no preview in this browser, but it can be sent`;
  }
  form.dispatchEvent(new Event("picture"));
}

/** Use the first picture among these files, if there is one, and return whether there is. */
function use(files) {
  const picture = Array.from(files ?? []).find((file) => file.type.startsWith("image/"));
  if (!picture) return false;
  const transfer = new DataTransfer();
  transfer.items.add(picture);
  input.files = transfer.files;
  show(picture);
  return true;
}

// Some browsers empty the field when their dialog is canceled.
input.addEventListener("change", () => (input.files.length ? show(input.files[0]) : restoreInput()));
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.add("dragover");
  });
}
document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("dragover"));
document.addEventListener("drop", (event) => {
  drop.classList.remove("dragover");
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  if (!use(event.dataTransfer.files)) showError("Not a picture. Drop a PNG, JPEG or WebP file.");
});
document.addEventListener("paste", (event) => {
  if (use(event.clipboardData?.files)) event.preventDefault();
});

const storedImage = drop.querySelector("img");
if (storedImage) setSize(storedImage.getAttribute("width"), storedImage.getAttribute("height"));
// Browsers keep the chosen file when one comes back to the page.
if (input.files.length) show(input.files[0]);
