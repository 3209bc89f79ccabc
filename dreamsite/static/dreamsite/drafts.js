// Drafts of the studio, one for each account of each site of the host, in the browser's storage: fields as JSON, and a
// chosen file in IndexedDB, which takes files. Where storage is forbidden, nothing is kept. Signing out, from any page,
// forgets all of them.
import { keys, read, write } from "./storage.js";

const PREFIX = "draft:";
const FILES = "files";

/** Run a request on the store of files and return its result; undefined where there is no store. */
function onFiles(mode, request) {
  return new Promise((resolve) => {
    const opening = indexedDB.open("dreamsite", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(FILES);
    opening.onerror = () => resolve(undefined);
    opening.onsuccess = () => {
      const transaction = opening.result.transaction(FILES, mode);
      const running = request(transaction.objectStore(FILES));
      const end = () => {
        opening.result.close();
        resolve(transaction.error ? undefined : running.result);
      };
      transaction.oncomplete = end;
      transaction.onabort = end;
    };
  }).catch(() => undefined);
}

/** Return the draft's fields, or null without a draft. */
export const readFields = (account) => JSON.parse(read(PREFIX + account));
export const writeFields = (account, fields) => write(PREFIX + account, JSON.stringify(fields));
export const readFile = (account) => onFiles("readonly", (files) => files.get(account));
export const writeFile = (account, file) =>
  onFiles("readwrite", (files) => (file ? files.put(file, account) : files.delete(account)));

export function forget(account) {
  write(PREFIX + account, null);
  return writeFile(account, null);
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-sign-out]")) return;
  for (const key of keys()) if (key.startsWith(PREFIX)) forget(key.slice(PREFIX.length));
});
