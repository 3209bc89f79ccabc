// The batches of the review: says how many are in, and releases the claims when the page is left.
import "./review_view.js";
import { formData } from "./review_counts.js";

const form = document.getElementById("batch");
const label = form.querySelector("[data-count]");
let isSent = false;

function showCount() {
  const number = form.querySelectorAll("[name=image]:checked").length;
  label.textContent = number ? `Mark ${number} safe` : "Next batch";
}

form.addEventListener("change", showCount);
form.addEventListener("submit", (event) => {
  if (isSent) event.preventDefault();
  isSent = true;
});
addEventListener("pagehide", () => isSent || navigator.sendBeacon(form.dataset.release, formData()));
addEventListener("pageshow", (event) => event.persisted && location.reload());
showCount();
