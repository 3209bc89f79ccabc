// The studio's form as it is sent. A picture is sent once, however often one generates from it: then the first generation
// that was made of it names it.
import { chosenMask } from "./mask_input.js";
import { reducedPicture } from "./picture_reduction.js";
import { post } from "./studio_upload.js";

const form = document.getElementById("compose");

// The last picture that was sent, in words that tell it from others, and its generation.
const sent = { picture: "", generation: "" };

export const isJson = (response) => (response.headers.get("Content-Type") ?? "").startsWith("application/json");

/** Return the picture's file, or null, and words that tell it from other files and sizes. */
async function pictureToSend() {
  const [file] = document.getElementById("image").files;
  if (!file) return { file: null, words: "" };
  const reduced = await reducedPicture();
  // Without a mask, the server may keep a smaller picture than it was sent.
  const size = reduced ? `${reduced.width} ${reduced.height}` : `original ${Boolean(chosenMask())}`;
  return { file: reduced?.file ?? file, words: `${file.name} ${file.size} ${file.lastModified} ${size}` };
}

/** Return whether a response is about the picture that was named instead of sent: it may be deleted by now. */
async function isGone(response) {
  return response.status === 404 || (response.status === 422 && "image" in (await response.clone().json()).errors);
}

/**
 * Send the form and return the response, and a function that takes the generation that was made. Throws an error of
 * `post`.
 *
 * A response in HTML with status 403 is about the token against forged requests, which comes with a page and goes with its
 * cookie: then the page is fetched, for a new one, and the form is sent once more.
 */
export async function send(submitter) {
  const { file, words } = await pictureToSend();
  const submit = () => {
    const body = new FormData(form);
    if (submitter) body.append(submitter.name, submitter.value);
    if (file && words === sent.picture) {
      body.delete("image");
      body.set("from", sent.generation);
    } else if (file) {
      body.set("image", file);
    }
    return post(form.action, body, { "X-Requested-With": "fetch" });
  };
  let response = await submit();
  if (file && words === sent.picture && (await isGone(response))) {
    sent.picture = "";
    response = await submit();
  }
  if (response.status === 403 && !isJson(response)) {
    const page = await fetch(form.action);
    response = page.redirected ? Object.assign(page, { isRedirected: true }) : await submit();
  }
  const noteGeneration = (generation) => {
    if (file && words !== sent.picture) Object.assign(sent, { picture: words, generation });
  };
  return { response, noteGeneration };
}
