// Buttons that copy: data-copy is a selector of the element whose text is copied, data-copy-text is the text itself. The
// text of an element with data-copy-now, which an answer to a click brings, is copied at once.

const FEEDBACK_MS = 1600;

const status = Object.assign(document.createElement("p"), { className: "hidden" });
status.setAttribute("role", "status");
document.body.append(status);

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Over plain HTTP browsers have no clipboard API, but still this.
  const area = Object.assign(document.createElement("textarea"), { value: text, className: "hidden" });
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  if (!isCopied) throw new Error("The browser refused to copy.");
}

function showCopied(button) {
  button.focus();
  status.textContent = "Copied";
  button.classList.add("copied");
  setTimeout(() => {
    button.classList.remove("copied");
    status.textContent = "";
  }, FEEDBACK_MS);
}

document.addEventListener("htmx:afterSettle", async () => {
  const element = document.querySelector("[data-copy-now]");
  if (!element) return;
  element.removeAttribute("data-copy-now");
  try {
    await copy(element.textContent);
    showCopied(document.querySelector(`[data-copy="#${element.id}"]`));
  } catch {
    status.textContent = "The link is ready. Press its button to copy it.";
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-text]");
  if (!button) return;
  const text = button.dataset.copyText ?? document.querySelector(button.dataset.copy).textContent;
  try {
    await copy(text);
  } catch {
    status.textContent = "Could not copy. Select the text and copy it.";
    return;
  }
  showCopied(button);
});
