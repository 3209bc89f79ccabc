// The studio's estimate: what the form as it is would cost and take, and the same request as a program sends it.
import { chosenMask } from "./mask_input.js";
import { reducedPicture } from "./picture_reduction.js";

const form = document.getElementById("compose");
const byId = (id) => document.getElementById(id);

const TYPING_PAUSE_MS = 350;
let lastRequest = 0;

/** Return the form without its pictures: the estimate needs the picture's size and name, and the box around the mask. */
async function formData() {
  const body = new FormData(form);
  const [file] = byId("image").files;
  if (file) {
    body.delete("image");
    body.append("filename", file.name);
  }
  body.delete("images[]");
  const mask = chosenMask();
  if (mask) {
    body.delete("mask");
    body.append("open_box", mask.box.join(","));
  }
  const { width, height } = (await reducedPicture()) ?? byId("drop").dataset;
  if (width) {
    body.append("width", width);
    body.append("height", height);
  }
  return body;
}

/** Return the server's estimate, or null if there is none: the form works without. */
async function fetchEstimate() {
  try {
    const response = await fetch(form.dataset.estimate, { method: "POST", body: await formData() });
    return response.ok && !response.redirected ? await response.json() : null;
  } catch {
    return null;
  }
}

function showWarnings(list, warnings) {
  const notes = warnings.map((text) => Object.assign(document.createElement("p"), { textContent: text, className: "note" }));
  list.replaceChildren(...notes);
}

function show({ errors, words, sheet, warnings, prompt_warnings: promptWarnings, curl, python }) {
  const messages = Object.values(errors).flat();
  byId("estimate").textContent = messages.length ? messages.join(" ") : words;
  byId("sheet-estimate").textContent = sheet;
  showWarnings(byId("prompt-warnings"), promptWarnings);
  // On phones it would appear beneath Generate, which covers the end of the window.
  if (document.activeElement === byId("prompt")) byId("prompt-warnings").scrollIntoView({ block: "nearest" });
  showWarnings(byId("warnings"), warnings);
  if (curl) {
    byId("as-curl").textContent = curl;
    byId("as-python").textContent = python;
    byId("code").hidden = false;
  }
}

async function update() {
  const request = ++lastRequest;
  const hasPicture = byId("image").files.length || document.querySelector("[data-stored]");
  if (!byId("prompt").value.trim() || !hasPicture) {
    byId("estimate").textContent = "Choose a picture and write a prompt.";
    byId("sheet-estimate").textContent = "";
    for (const id of ["prompt-warnings", "warnings"]) showWarnings(byId(id), []);
    return;
  }
  const estimate = await fetchEstimate();
  if (estimate && request === lastRequest) show(estimate);
}

export function startEstimates() {
  let timer = 0;
  for (const type of ["input", "change", "picture", "mask", "references", "end"]) {
    form.addEventListener(type, () => {
      clearTimeout(timer);
      timer = setTimeout(update, TYPING_PAUSE_MS);
    });
  }
  addEventListener("pageshow", update);
}
