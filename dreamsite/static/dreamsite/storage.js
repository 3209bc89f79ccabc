// The browser's storage. Where it is forbidden, nothing is stored and a choice lasts as long as the page. `storage` is
// "localStorage", or "sessionStorage" for what this tab alone keeps.

export function read(key, storage = "localStorage") {
  try {
    return globalThis[storage].getItem(key);
  } catch {
    return null;
  }
}

/** Store a text, or remove the key if the text is null. */
export function write(key, text, storage = "localStorage") {
  try {
    if (text === null) globalThis[storage].removeItem(key);
    else globalThis[storage].setItem(key, text);
  } catch {
    // Not stored.
  }
}

export function keys() {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}
