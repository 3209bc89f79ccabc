// What a drop or a paste carries: files, or addresses of pictures and pages, such as of a picture dragged from a page.

// Ids of generations are in the addresses of one's own pictures and of their pages.
const OWN = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
const PROTOCOLS = ["http:", "https:", "data:"];

function toUrl(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  return url && PROTOCOLS.includes(url.protocol) ? url.href : null;
}

/** Return the files and the addresses of a transfer, pictures before links. To be called during its event. */
export function contentsOf(transfer) {
  const page = new DOMParser().parseFromString(transfer.getData("text/html"), "text/html");
  const pictures = Array.from(page.images, (image) => image.src);
  const links = transfer.getData("text/uri-list").split(/\r?\n/).filter((line) => !line.startsWith("#"));
  const candidates = [...pictures, ...links, transfer.getData("text/plain").trim()];
  return {
    files: Array.from(transfer.files),
    addresses: [...new Set(candidates.map(toUrl).filter(Boolean))],
  };
}

/** Return the server's HTML of the first address that shows a picture of one's own, or null. Throws an error in words. */
export async function fetchOwn(address, addresses, form) {
  const body = new FormData();
  for (const url of addresses) if (OWN.test(url) && !url.startsWith("data:")) body.append("address", url);
  return body.has("address") ? fetchStored(address, body, form) : null;
}

/** Return the server's HTML of the stored picture that `body` names, or null if there is none. Throws an error in words. */
export async function fetchStored(address, body, form) {
  body.append("csrfmiddlewaretoken", new FormData(form).get("csrfmiddlewaretoken"));
  const response = await fetch(address, { method: "POST", body }).catch(() => {
    throw new Error("The server cannot be reached. Try again.");
  });
  if (response.status === 422) throw new Error((await response.json()).errors.image.join(" "));
  return response.status === 200 && !response.redirected ? response.text() : null;
}

/** Return the last part of an address's path, decoded unless it was never encoded. */
function nameOf(pathname) {
  const name = pathname.split("/").pop();
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/**
 * Return the first of these addresses that is a picture, as a file that `isAccepted`. Other sites decide whether a page
 * may read them (CORS). Throws an error in words.
 */
export async function fetchOther(addresses, isAccepted) {
  let refusing = null;
  for (const address of addresses) {
    const { host, pathname } = new URL(address);
    try {
      const response = await fetch(address, { credentials: "omit", referrerPolicy: "no-referrer" });
      const blob = await response.blob();
      const name = address.startsWith("data:") ? "" : nameOf(pathname);
      const file = new File([blob], name || "picture", { type: blob.type });
      if (response.ok && (await isAccepted(file))) return file;
    } catch {
      refusing ??= host;
    }
  }
  if (refusing) {
    throw new Error(`${refusing} does not let other sites read its pictures. Save the picture and drop the file.`);
  }
  return null;
}
