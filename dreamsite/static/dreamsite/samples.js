// The sample photos of the studio's first visit, and its ideas, which are a photo with a prompt.
import { showFile } from "./picture_input.js";

const form = document.getElementById("compose");

function set(name, value) {
  const control = form.elements[name];
  control.value = value;
  for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, { bubbles: true }));
}

async function fetchPhoto(address) {
  const blob = await (await fetch(address)).blob();
  return new File([blob], address.split("/").pop(), { type: blob.type });
}

document.addEventListener("click", async (event) => {
  const choice = event.target.closest("[data-sample]");
  if (!choice || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const isIdea = Boolean(choice.dataset.idea);
  if (isIdea) {
    // The model first: it decides which parameters there are.
    set("model_id", choice.dataset.model);
    set("prompt", choice.dataset.idea);
  }
  await showFile(() => fetchPhoto(choice.dataset.sample));
  document.getElementById("drop").scrollIntoView({ block: "nearest" });
  document.getElementById(isIdea ? "generate" : "prompt").focus({ preventScroll: true });
});
