// Phones, and browsers that are to save data, reduce the picture to what the chosen model takes before it is sent, unless
// its user wants the original sent.
import { createCanvas, isReadable, pixelsOf } from "./canvases.js";
import { chosenMask } from "./mask_input.js";
import { chosenPicture } from "./picture_input.js";

const SMALL_BYTES = 500_000;
const JPEG_QUALITY = 0.92;

const form = document.getElementById("compose");
const box = document.getElementById("send-original");
const part = document.getElementById("reduction");
const models = JSON.parse(document.getElementById("model-behaviour").textContent);
const savesData = matchMedia("(pointer: coarse)").matches || Boolean(navigator.connection?.saveData);

let last = { file: null, width: 0, height: 0, reducing: null };
let lastShown = 0;

const words = (bytes) =>
  bytes < 2 ** 20 / 10 ? `${Math.ceil(bytes / 2 ** 10)} kB` : `${(bytes / 2 ** 20).toFixed(1)} MB`;

/** Return the largest size that the model makes of a picture, as the server computes it. */
function fit(width, height, { max_side: maxSide, max_pixels: maxPixels }) {
  const sideScale = maxSide / Math.max(width, height);
  const areaScale = Math.sqrt(maxPixels / (width * height));
  if (Math.min(sideScale, areaScale) >= 1) return [width, height];
  const [scale, round] = sideScale <= areaScale ? [sideScale, Math.round] : [areaScale, Math.floor];
  return [width, height].map((side) => Math.max(1, round(side * scale)));
}

function draw(source, width, height) {
  const canvas = createCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}

function isOpaque(canvas) {
  const data = pixelsOf(canvas);
  for (let index = 3; index < data.length; index += 4) if (data[index] < 255) return false;
  return true;
}

/** Return a smaller file of a picture of the page, which is upright as it is shown; null if there is none. */
async function reduce(file, image, width, height) {
  if (!isReadable()) return null;
  let source = image;
  // Step by step: some browsers skip pixels where they reduce by more than half.
  for (let [w, h] = [image.naturalWidth, image.naturalHeight]; w > 2 * width; ) {
    [w, h] = [Math.ceil(w / 2), Math.ceil(h / 2)];
    source = draw(source, w, h);
  }
  const canvas = draw(source, width, height);
  const type = isOpaque(canvas) ? "image/jpeg" : "image/png";
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, JPEG_QUALITY));
  return blob && blob.size < file.size ? new File([blob], file.name, { type, lastModified: file.lastModified }) : null;
}

/** Return whether a contact sheet is filled in for several models, of which some may take more than the chosen one. */
const variesModel = () => ["columns_field", "rows_field"].some((name) => form.elements[name].value === "model_id");

/** Return the chosen file reduced for the chosen model, with its size; null if it is sent as it is. */
async function findReduced() {
  const { file } = chosenPicture();
  const image = document.querySelector("#drop img");
  if (!savesData || !file || !image || file.size < SMALL_BYTES || variesModel()) return null;
  const [width, height] = fit(image.naturalWidth, image.naturalHeight, models[form.elements.model_id.value].sizes);
  if (width === image.naturalWidth && height === image.naturalHeight) return null;
  if (last.file !== file || last.width !== width || last.height !== height) {
    last = { file, width, height, reducing: reduce(file, image, width, height).catch(() => null) };
  }
  const reduced = await last.reducing;
  return reduced && { file: reduced, width, height };
}

/**
 * Return what to send for the chosen file: a smaller one with its size, or null for the original. With a mask it is the
 * original, whose pixels outside of the mask are those of the result.
 */
export async function reducedPicture() {
  return box.checked || chosenMask() ? null : findReduced();
}

async function show() {
  const number = ++lastShown;
  const { file } = chosenPicture();
  const reduced = await findReduced();
  if (number !== lastShown) return;
  part.hidden = !reduced;
  if (!reduced) return;
  box.parentElement.hidden = Boolean(chosenMask());
  if (chosenMask()) {
    part.querySelector("p").textContent =
      `Sends ${words(file.size)} instead of ${words(reduced.file.size)}: with a mask the result keeps all pixels.`;
    return;
  }
  const [sent, other] = box.checked ? [file, reduced.file] : [reduced.file, file];
  const size = `${reduced.width} × ${reduced.height}`;
  const follows = box.checked ? `. The result is ${size} either way.` : `: ${size}, the size of the result.`;
  part.querySelector("p").textContent = `Sends ${words(sent.size)} instead of ${words(other.size)}${follows}`;
}

export function startReduction() {
  for (const type of ["picture", "mask", "change"]) form.addEventListener(type, show);
  // The box is outside of the form's element.
  box.addEventListener("change", () => form.dispatchEvent(new Event("change")));
  show();
}
