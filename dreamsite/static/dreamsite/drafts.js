// Drafts of the studio in the browser's storage, for each account of each site of the host: fields as JSON, and chosen
// files in IndexedDB, which takes files. Each tab has its own draft, and a new tab starts with the one that was written
// last. Where storage is forbidden, nothing is kept. Signing out, from any page, forgets all of them.
import { forgetReceived } from "./installed.js";
import { keys, read, write } from "./storage.js";

const PREFIX = "draft:";
const SIGN_OUTS = "sign-outs";
// The stores, and how much each keeps: files, or lists of files. A mask is small and changes often.
const STORES = { pictures: 8, masks: 32, references: 8 };

/** Run a request on one of the stores and return its result; undefined where there is none. */
function onFiles(store, mode, request) {
  return new Promise((resolve) => {
    const opening = indexedDB.open("dreamsite-drafts", 2);
    opening.onupgradeneeded = () => {
      for (const name of Object.keys(STORES)) opening.result.createObjectStore(name, { autoIncrement: true });
    };
    opening.onerror = () => resolve(undefined);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(store, mode);
      const running = request(transaction.objectStore(store));
      const end = () => {
        opening.result.close();
        resolve(transaction.error ? undefined : running.result);
      };
      transaction.oncomplete = end;
      transaction.onabort = end;
    };
  }).catch(() => undefined);
}

// A tab cannot remove what other tabs keep: the number of sign-outs in the key ends their drafts, too.
const keyInTab = (account) => `${PREFIX}${read(SIGN_OUTS) ?? 0}:${account}`;

/** Return the draft of this tab, at first the one that was written last; null without a draft. */
export function readDraft(account) {
  const draft = read(keyInTab(account), "sessionStorage") ?? read(PREFIX + account) ?? "null";
  write(keyInTab(account), draft, "sessionStorage");
  return JSON.parse(draft);
}

/** Keep a draft, unless it is the one that this tab has: a tab that is only reloaded does not have the last word. */
export function writeDraft(account, draft) {
  const text = JSON.stringify(draft);
  if (text === read(keyInTab(account), "sessionStorage")) return;
  write(keyInTab(account), text, "sessionStorage");
  write(PREFIX + account, text);
}

/** Forget the draft of this tab, and the one that new tabs start with. */
export function forget(account) {
  write(keyInTab(account), "null", "sessionStorage");
  write(PREFIX + account, null);
}

export const readFile = (store, id) => onFiles(store, "readonly", (files) => files.get(id));

/** Store a file and return its id. Tabs do not say when they are closed, so the last files of each store are kept. */
export const writeFile = (store, file) =>
  onFiles(store, "readwrite", (files) => {
    const adding = files.add(file);
    adding.onsuccess = () => files.delete(IDBKeyRange.upperBound(adding.result - STORES[store]));
    return adding;
  });

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-sign-out]")) return;
  for (const key of keys()) if (key.startsWith(PREFIX)) write(key, null);
  write(SIGN_OUTS, String(Number(read(SIGN_OUTS)) + 1));
  for (const store of Object.keys(STORES)) onFiles(store, "readwrite", (files) => files.clear());
  forgetReceived();
});
