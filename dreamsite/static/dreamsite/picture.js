// The picture of the studio: chosen, dropped or pasted, shown at its own size. Tells the page with a "picture" event.
{
  const drop = document.getElementById("drop");
  const file = document.getElementById("image");
  const form = document.getElementById("compose");
  const known = document.getElementById("known");
  let shown = 0;
  let kept = null;

  const complain = (words) => {
    const list = document.getElementById("image-errors");
    list.replaceChildren(...(words ? [Object.assign(document.createElement("li"), { textContent: words })] : []));
    drop.classList.toggle("invalid", Boolean(words));
  };

  function sized(width, height) {
    drop.dataset.width = width;
    drop.dataset.height = height;
    drop.style.setProperty("--w", width);
    drop.style.setProperty("--h", height);
    known.textContent = `${width} × ${height}`;
  }

  function hold(files) {
    const carrier = new DataTransfer();
    for (const one of files) carrier.items.add(one);
    file.files = carrier.files;
  }

  async function show(picture) {
    const most = Number(form.dataset.maxBytes);
    if (picture.size > most) {
      // What is shown stays what is sent.
      hold(kept ? [kept] : []);
      complain(`This file has ${(picture.size / 2 ** 20).toFixed(1)} MB; choose one of at most ${(most / 2 ** 20).toFixed(0)} MB.`);
      return;
    }
    const mine = ++shown;
    kept = picture;
    complain("");
    // What is uploaded takes the place of what is stored.
    form.querySelectorAll("[data-stored]").forEach((field) => (field.disabled = true));
    document.querySelector(".under .kept")?.remove();
    const image = new Image();
    image.alt = `The picture to start from: ${picture.name}`;
    image.src = URL.createObjectURL(picture);
    try {
      await image.decode();
    } catch {
      // The server knows more formats than browsers do, and judges.
      if (mine !== shown) return;
      delete drop.dataset.width;
      drop.querySelector("img")?.remove();
      drop.classList.remove("filled", "flagged");
      known.textContent = `${picture.name}: cannot be shown here, but may be sent`;
      form.dispatchEvent(new Event("picture"));
      return;
    }
    if (mine !== shown) return;
    image.width = image.naturalWidth;
    image.height = image.naturalHeight;
    sized(image.naturalWidth, image.naturalHeight);
    const before = drop.querySelector("img");
    if (before?.src.startsWith("blob:")) URL.revokeObjectURL(before.src);
    before?.remove();
    drop.prepend(image);
    drop.classList.remove("flagged");
    drop.classList.add("filled");
    form.dispatchEvent(new Event("picture"));
  }

  function take(files) {
    const pictures = Array.from(files ?? []).filter((one) => one.type.startsWith("image/"));
    if (!pictures.length) return false;
    hold([pictures[0]]);
    show(pictures[0]);
    return true;
  }

  if (drop) {
    // Some browsers empty the field when nothing is chosen after all.
    file.addEventListener("change", () => (file.files.length ? show(file.files[0]) : hold(kept ? [kept] : [])));
    for (const kind of ["dragenter", "dragover"]) {
      document.addEventListener(kind, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        drop.classList.add("over");
      });
    }
    document.addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
    document.addEventListener("drop", (event) => {
      drop.classList.remove("over");
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      if (!take(event.dataTransfer.files)) complain("That is no picture; drop a PNG, JPEG or WebP file.");
    });
    document.addEventListener("paste", (event) => {
      if (take(event.clipboardData?.files)) event.preventDefault();
    });
    const stored = drop.querySelector("img");
    if (stored) sized(stored.getAttribute("width"), stored.getAttribute("height"));
    // Browsers keep a chosen file when one comes back to the page.
    if (file.files.length) show(file.files[0]);
  }
}
