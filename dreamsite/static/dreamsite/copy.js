// Buttons that copy: data-copy names an element whose text is wanted, data-copy-text is the text itself.
{
  const said = document.createElement("p");
  said.className = "hidden";
  said.setAttribute("role", "status");
  addEventListener("DOMContentLoaded", () => document.body.append(said));

  async function copy(text) {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    // Browsers keep the clipboard from pages of plain HTTP; the old way still works there.
    const area = Object.assign(document.createElement("textarea"), { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("copying is not possible here");
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy], [data-copy-text]");
    if (!button) return;
    const text = button.dataset.copyText ?? document.querySelector(button.dataset.copy).textContent;
    try {
      await copy(text);
    } catch {
      said.textContent = "Could not copy. Select the text and copy it yourself.";
      return;
    }
    button.focus();
    said.textContent = "Copied";
    button.classList.add("copied");
    setTimeout(() => {
      button.classList.remove("copied");
      said.textContent = "";
    }, 1600);
  });
}
