// Keys of a page. What has data-key="f" is activated by that key: fields get the focus, all else is clicked.
// Inside of a [data-keys-of-focus] a key counts only while the focus is in there too: each tile of a grid has its own.
// `?` shows all of them, by data-key-name or the name of the control; [data-keys-help] is a button for that.
// [data-key-hint] with data-key-name only tells of a key that another module handles.
{
  const SIGNS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Delete: "Del", Escape: "Esc", " ": "Space" };
  const TYPED = "input:not([type=checkbox], [type=radio], [type=button], [type=submit], [type=range]), textarea, select, [contenteditable]";
  const plain = (key) => (key.length === 1 ? key.toLowerCase() : key);

  // What is folded away is out of reach: the key that unfolds it comes first.
  const isFolded = (control) => !control.matches("summary") && control.closest("details:not([open])");

  function wanted(key) {
    const focus = document.activeElement;
    const all = [...document.querySelectorAll("[data-key]")].filter(
      (control) => plain(control.dataset.key) === key && !control.disabled && !isFolded(control),
    );
    const near = focus?.closest("[data-keys-of-focus]");
    return (
      all.find((control) => near?.contains(control)) ?? all.find((control) => !control.closest("[data-keys-of-focus]"))
    );
  }

  function name(control) {
    return control.dataset.keyName || control.ariaLabel || control.labels?.[0]?.textContent.trim() || control.textContent.trim();
  }

  function help() {
    const told = new Map();
    for (const control of document.querySelectorAll("[data-key], [data-key-hint]")) {
      const key = control.dataset.keyHint ?? SIGNS[control.dataset.key] ?? control.dataset.key;
      if (!told.has(key)) told.set(key, name(control));
    }
    told.set("?", "Show these keys");
    const dialog = document.createElement("dialog");
    dialog.className = "keys";
    dialog.setAttribute("aria-labelledby", "keys-title");
    dialog.innerHTML = '<form method="dialog"><h2 id="keys-title">Keys of this page</h2><dl></dl><button class="btn">Close</button></form>';
    for (const [key, words] of told) {
      const term = document.createElement("dt");
      term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      dialog.querySelector("dl").append(term, Object.assign(document.createElement("dd"), { textContent: words }));
    }
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    document.body.append(dialog);
    dialog.showModal();
  }

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
    if (event.target.closest(TYPED) || document.querySelector("dialog[open]")) return;
    if (event.key === "?") {
      event.preventDefault();
      help();
      return;
    }
    const control = wanted(plain(event.key));
    if (!control) return;
    event.preventDefault();
    if (control.matches(TYPED)) {
      control.focus();
      control.select?.();
    } else {
      control.click();
    }
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys-help]")) help();
  });
}
