// The studio's request on its way to the server. What takes a while, such as a large picture, is a line among the jobs,
// which says how much of it is sent and cancels it.
import { addJob } from "./job_progress.js";
import { chosenPicture } from "./picture_input.js";

const SHOWN_AFTER_MS = 400;

/** The upload was canceled by its user. */
export class UploadCanceled extends Error {}

/** The connection was lost before everything was sent. */
export class UploadLost extends Error {}

/** The server cannot be reached, or does not answer. */
class ServerUnreachable extends Error {}

function createLine() {
  const template = document.getElementById("upload-line").content;
  const line = document.importNode(template, true).querySelector(".job");
  const picture = document.querySelector("#drop img");
  const thumbnail = line.querySelector("img");
  if (picture && chosenPicture().file) thumbnail.src = picture.src;
  else thumbnail.remove();
  line.querySelector(".words").textContent = document.getElementById("prompt").value;
  line.querySelector("small").textContent = document.getElementById("model_id").value;
  return line;
}

/**
 * POST a body and return its response, with `isRedirected` whether another page answered. Throws `UploadCanceled`,
 * `UploadLost` or `ServerUnreachable`.
 */
export function post(url, body, headers) {
  // fetch does not tell how much is sent.
  const request = new XMLHttpRequest();
  const line = createLine();
  const status = line.querySelector("[data-status]");
  const cancel = line.querySelector("button");
  const ends = new AbortController();
  let isSent = false;

  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => addJob(line), SHOWN_AFTER_MS);
    const stop = (error) => {
      reject(error);
      request.abort();
    };
    const fail = () => stop(isSent || !line.isConnected ? new ServerUnreachable() : new UploadLost());
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      const percent = Math.floor((100 * loaded) / total);
      line.querySelector("progress").value = percent;
      status.textContent = `sending, ${percent} %`;
    });
    request.upload.addEventListener("load", () => {
      isSent = true;
      cancel.hidden = true;
      status.textContent = "sent, being checked";
    });
    request.addEventListener("load", () => {
      const response = new Response(request.response || null, {
        status: request.status,
        headers: { "Content-Type": request.getResponseHeader("Content-Type") ?? "" },
      });
      resolve(Object.assign(response, { isRedirected: request.responseURL !== new URL(url, location.href).href }));
    });
    request.addEventListener("error", fail);
    request.addEventListener("loadend", () => {
      clearTimeout(timer);
      ends.abort();
      line.remove();
    });
    // Without a network, browsers wait for minutes before they give up.
    addEventListener("offline", fail, ends);
    cancel.addEventListener("click", () => stop(new UploadCanceled()));
    request.open("POST", url);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.send(body);
  });
}
