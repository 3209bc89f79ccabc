// Keyboard shortcuts. A control with data-key="f" is activated by that key: a text field gets the focus, all else is
// clicked. Escape leaves a text area that has a key. Inside an element with data-keys-of-focus a key works only while the
// focus is in it: each tile of a grid has its own; the innermost such element with the key wins. `?`, or a button with
// data-keys-help, lists the shortcuts by data-key-name or the name of the control. An element with data-key-hint and
// data-key-name only adds a line to that list, for a key that another module handles.

const KEY_LABELS = {
  ArrowLeft: "←",
  ArrowRight: "→",
  ArrowUp: "↑",
  ArrowDown: "↓",
  Delete: "Del",
  Escape: "Esc",
  " ": "Space",
};
const TEXT_FIELDS = [
  "input:not([type=checkbox], [type=radio], [type=button], [type=submit], [type=range])",
  "textarea, select, [contenteditable]",
].join();

const normalized = (key) => (key.length === 1 ? key.toLowerCase() : key);

// A control in a closed <details> is out of reach, except the summary that opens it.
const isFolded = (control) => !control.matches("summary") && control.closest("details:not([open])");

function controlFor(key) {
  const controls = [...document.querySelectorAll("[data-key]")].filter(
    (control) => normalized(control.dataset.key) === key && !control.disabled && !isFolded(control),
  );
  let scope = document.activeElement?.closest("[data-keys-of-focus]");
  for (; scope; scope = scope.parentElement.closest("[data-keys-of-focus]")) {
    const control = controls.find((each) => scope.contains(each));
    if (control) return control;
  }
  return controls.find((control) => !control.closest("[data-keys-of-focus]"));
}

function nameOf(control) {
  const label = control.labels?.[0]?.textContent.trim();
  return control.dataset.keyName || control.ariaLabel || label || control.textContent.trim();
}

/** Return the page's shortcuts: a map from a key's label to the name of what it does. */
function shortcuts() {
  const names = new Map();
  for (const control of document.querySelectorAll("[data-key], [data-key-hint]")) {
    const key = control.dataset.keyHint ?? KEY_LABELS[control.dataset.key] ?? control.dataset.key;
    if (!names.has(key)) names.set(key, nameOf(control));
  }
  return names.set("?", "Show keyboard shortcuts");
}

function showHelp() {
  const dialog = document.createElement("dialog");
  dialog.className = "keys";
  dialog.setAttribute("aria-labelledby", "keys-title");
  dialog.innerHTML = `<form method="dialog">
    <h2 id="keys-title">Keyboard shortcuts</h2>
    <dl></dl>
    <button class="btn">Close</button>
  </form>`;
  for (const [key, name] of shortcuts()) {
    const term = document.createElement("dt");
    term.append(Object.assign(document.createElement("kbd"), { textContent: key }));
    dialog.querySelector("dl").append(term, Object.assign(document.createElement("dd"), { textContent: name }));
  }
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
  if (event.defaultPrevented || hasModifier || event.isComposing || event.repeat) return;
  if (event.key === "Escape" && event.target.matches("textarea[data-key]")) {
    event.target.blur();
    return;
  }
  if (event.target.closest(TEXT_FIELDS) || document.querySelector("dialog[open]")) return;
  if (event.key === "?") {
    event.preventDefault();
    showHelp();
    return;
  }
  const control = controlFor(normalized(event.key));
  if (!control) return;
  event.preventDefault();
  if (control.matches(TEXT_FIELDS)) {
    control.focus();
    control.select?.();
  } else {
    control.click();
  }
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-keys-help]")) showHelp();
});
