// The pictures beside the first, for models that read several: added, removed and put in order. The form sends them in the
// order of the list. The form gets a "references" event when they change.
import { isPicture } from "./picture_kinds.js";

const form = document.getElementById("compose");
const part = document.getElementById("references");
const input = document.getElementById("images[]");
const list = part.querySelector("[data-files]");
const template = part.querySelector("template").content;
const status = part.querySelector("[role=status]");
const models = JSON.parse(document.getElementById("model-behaviour").textContent);

let files = [];

// Those of an earlier request come first.
const stored = part.querySelector("[data-stored-references]");
const storedNumber = () => (stored?.isConnected ? stored.querySelectorAll("li").length : 0);
const maximum = () => models[form.elements.model_id.value].max_references;
export const chosenReferences = () => files;

function showError(message) {
  document.getElementById("images[]-errors").replaceChildren(
    ...(message ? [Object.assign(document.createElement("li"), { textContent: message })] : []),
  );
}

function createItem(file, index) {
  const item = document.importNode(template, true).querySelector("li");
  const image = item.querySelector("img");
  image.src = URL.createObjectURL(file);
  image.alt = `Further picture ${index + 1}: ${file.name}`;
  image.addEventListener("error", () => (image.hidden = true));
  item.querySelector("span").textContent = file.name;
  for (const button of item.querySelectorAll("button")) {
    button.ariaLabel = `${button.title}: ${file.name}`;
    button.dataset.index = index;
  }
  item.querySelector('[data-move="-1"]').disabled = index === 0;
  item.querySelector('[data-move="1"]').disabled = index === files.length - 1;
  return item;
}

function show() {
  const most = maximum();
  part.hidden = !most;
  input.disabled = !most;
  const transfer = new DataTransfer();
  for (const file of files) transfer.items.add(file);
  input.files = transfer.files;
  for (const image of list.querySelectorAll("img")) URL.revokeObjectURL(image.src);
  list.replaceChildren(...files.map(createItem));
  const number = storedNumber() + files.length;
  status.textContent = number ? `${number} of at most ${most}.` : `This model reads up to ${most} more.`;
  showError(number > most ? `This model reads at most ${most} further pictures. Remove some.` : "");
}

/** Use these files from now on, in this order. */
export function setReferences(newFiles) {
  files = newFiles;
  show();
  form.dispatchEvent(new Event("references"));
}

async function add(chosen) {
  const types = input.accept.split(",");
  const accepted = [];
  for (const file of chosen) if (await isPicture(file, types).catch(() => false)) accepted.push(file);
  setReferences([...files, ...accepted]);
  const refused = chosen.filter((file) => !accepted.includes(file)).map(({ name }) => name);
  if (refused.length) showError(`No picture that can be used: ${refused.join(", ")}.`);
}

list.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  const index = Number(button.dataset.index);
  const [file] = files.splice(index, 1);
  const step = Number(button.dataset.move ?? 0);
  if (step) files.splice(index + step, 0, file);
  setReferences([...files]);
  const item = list.children[Math.min(index + step, files.length - 1)];
  (item?.querySelector(step ? `[data-move="${step}"]:enabled` : "button:enabled") ?? input).focus();
});
stored?.querySelector("button").addEventListener("click", () => {
  stored.remove();
  setReferences(files);
  input.focus();
});
input.addEventListener("change", () => add([...input.files]));
form.elements.model_id.addEventListener("change", show);
show();
