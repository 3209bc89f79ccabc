// The studio's form made live: sliders, models, the dice, what it would cost, and submitting without leaving the page.
{
  const form = document.getElementById("compose");
  const by = (id) => document.getElementById(id);
  const ESTIMATE_AFTER = 350;

  const slides = () =>
    Array.from(form.querySelectorAll("[data-slider]"), (field) => ({
      field,
      number: field.querySelector("[type=number]"),
      range: field.querySelector("[type=range]"),
    }));

  // Without a value it would be the default of the API, which nobody sees here.
  const refill = () => slides().forEach(({ number, range }) => (number.value ||= range.value));

  function sliders() {
    slides().forEach(({ number, range }) => {
      range.addEventListener("input", () => {
        number.value = range.value;
        form.dispatchEvent(new Event("input"));
      });
      number.addEventListener("input", () => number.value && (range.value = number.value));
      number.addEventListener("change", refill);
    });
  }

  // Shows what has an effect on this model; numbers nobody has touched become those that it does best with.
  function models() {
    const told = JSON.parse(by("behaviour").textContent);
    const select = by("model_id");
    let before = told[select.querySelector("[selected]").value];
    const offer = (field, is_offered) => {
      field.hidden = !is_offered;
      field.querySelectorAll("[name]").forEach((control) => (control.disabled = !is_offered));
    };
    const show = () => {
      const now = told[select.value];
      slides().forEach(({ field, number, range }) => {
        const { slider } = field.dataset;
        offer(field, now.sliders[slider].shown);
        const untouched = number.value === before.sliders[slider].value;
        number.max = now.sliders[slider].max;
        range.max = now.sliders[slider].span;
        if (untouched || Number(number.value) > Number(number.max)) number.value = now.sliders[slider].value;
        range.value = number.value;
      });
      offer(form.querySelector('[data-field="negative_prompt"]'), now.negative_prompt);
      by("num_images_per_prompt").max = now.images;
      const idle = Object.keys(now.sliders).filter((name) => !now.sliders[name].shown);
      if (!now.negative_prompt) idle.push("negative_prompt");
      form.querySelectorAll("[data-axis] option").forEach((option) => {
        option.hidden = option.disabled = idle.includes(option.value);
        if (option.disabled && option.selected) option.parentElement.value = "";
      });
      form.querySelectorAll("[data-lora]").forEach((field) => offer(field, field.dataset.lora.split(" ").includes(select.value)));
      const ideas = by("ideas");
      ideas.hidden = !now.examples.length;
      ideas.querySelector("strong").textContent = select.value;
      ideas.querySelector("ul").replaceChildren(...now.examples.map(idea));
      before = now;
    };
    select.addEventListener("change", show);
    // Browsers put what was in the form back into it when one comes back, after the scripts of the page.
    addEventListener("pageshow", () => {
      if (told[select.value] !== before) show();
      slides().forEach(({ number, range }) => number.value && (range.value = number.value));
    });
  }

  function idea(prompt) {
    const query = new URLSearchParams({ model_id: by("model_id").value, prompt });
    const link = Object.assign(document.createElement("a"), { href: `?${query}`, textContent: prompt });
    link.dataset.prompt = prompt;
    const line = document.createElement("li");
    line.append(link);
    return line;
  }

  function quality() {
    const format = by("output_format");
    const field = form.querySelector('[data-field="output_quality"]');
    const show = () => {
      field.hidden = format.value === "png";
      by("output_quality").disabled = field.hidden;
    };
    format.addEventListener("change", show);
    show();
  }

  function axes() {
    const texts = ["prompt", "negative_prompt", "model_id"];
    const count = () => {
      const sizes = ["columns", "rows"].map((place) => {
        const field = by(`${place}_field`).value;
        by(place).disabled = !field;
        by(place).placeholder = texts.includes(field) ? "one on each line" : "2, 4, 7.5";
        if (!field) return 0;
        const parts = by(place).value.split(texts.includes(field) ? /\n/ : /[\s,;]+/);
        return new Set(parts.map((part) => part.trim()).filter(Boolean)).size;
      });
      by("cells").textContent = sizes[0] ? `${sizes[0] * (by("rows_field").value ? sizes[1] : 1)} pictures` : "";
    };
    form.addEventListener("input", count);
    count();
  }

  function complain(errors) {
    document.querySelectorAll("[data-errors]").forEach((place) => {
      const name = place.dataset.errors;
      const words = errors[name] ?? [];
      place.replaceChildren(
        ...words.map((text) =>
          Object.assign(document.createElement(name ? "li" : "p"), { textContent: text, className: name ? "" : "wrong" }),
        ),
      );
      place.closest(".field, .axis")?.classList.toggle("invalid", words.length > 0);
      const control = name && (name === "image" ? by("image") : form.elements[name]);
      if (control instanceof HTMLElement) control.setAttribute("aria-invalid", String(words.length > 0));
    });
    by("drop").classList.toggle("invalid", Boolean(errors.image));
    const wrong = Object.keys(errors).find((name) => name);
    const control = wrong && by(wrong);
    if (control instanceof HTMLElement) {
      control.closest("details")?.setAttribute("open", "");
      control.focus();
    }
  }

  // Fields that nothing is wrong with any more are not accused any longer.
  form?.addEventListener("input", (event) => {
    const place = event.target.id && document.getElementById(`${event.target.id}-errors`);
    if (!place) return;
    place.replaceChildren();
    event.target.setAttribute("aria-invalid", "false");
    event.target.closest?.(".invalid")?.classList.remove("invalid");
  });

  function estimates() {
    let timer = 0;
    let asked = 0;
    const ask = async () => {
      const mine = ++asked;
      const { width, height } = by("drop").dataset;
      const has_picture = by("image").files.length || form.querySelector("[data-stored]:not([disabled])");
      if (!by("prompt").value.trim() || !has_picture) {
        by("estimate").textContent = "Choose a picture and say what should happen to it.";
        by("sheet-estimate").textContent = "";
        return;
      }
      const body = new FormData(form);
      if (by("image").files.length) body.delete("image"); // its size is enough
      if (width) body.append("width", width), body.append("height", height);
      if (by("image").files.length) body.append("filename", by("image").files[0].name);
      let told;
      try {
        const answer = await fetch(form.dataset.estimate, { method: "POST", body });
        if (!answer.ok || answer.redirected) return;
        told = await answer.json();
      } catch {
        return; // no estimate is no harm
      }
      if (mine !== asked) return;
      const wrong = Object.values(told.errors).flat();
      by("estimate").textContent = wrong.length ? wrong.join(" ") : told.words;
      by("sheet-estimate").textContent = told.sheet;
      by("warnings").replaceChildren(
        ...told.warnings.map((text) => Object.assign(document.createElement("p"), { textContent: text, className: "note" })),
      );
      if (told.curl) {
        by("as-curl").textContent = told.curl;
        by("as-python").textContent = told.python;
        by("code").hidden = false;
      }
    };
    const soon = () => {
      clearTimeout(timer);
      timer = setTimeout(ask, ESTIMATE_AFTER);
    };
    for (const kind of ["input", "change", "picture"]) form.addEventListener(kind, soon);
    addEventListener("pageshow", ask);
  }

  const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

  async function submit(event) {
    event.preventDefault();
    if (form.dataset.busy) return;
    form.dataset.busy = "1";
    refill();
    const button = event.submitter?.name ? event.submitter : by("generate");
    button.setAttribute("aria-disabled", "true");
    const body = new FormData(form);
    if (event.submitter?.name) body.append(event.submitter.name, event.submitter.value);
    try {
      const answer = await fetch(form.action, { method: "POST", body, headers: { "X-Requested-With": "fetch" } });
      const kind = answer.headers.get("Content-Type") ?? "";
      if (answer.redirected) {
        complain({ "": ["You were signed out. Sign in again in another tab, then press Generate here: nothing is lost."] });
      } else if (answer.status === 201 && kind.startsWith("text/html")) {
        complain({});
        window.showJob(await answer.text());
        form.elements.key.value = fresh();
      } else if (answer.status === 201) {
        // The browser may keep this page for whoever comes back: it then asks for another sheet.
        form.elements.key.value = fresh();
        location.assign((await answer.json()).location);
      } else if (answer.status === 413) {
        complain({ image: ["The picture is too large; choose a smaller one."] });
      } else if (kind.startsWith("application/json")) {
        complain((await answer.json()).errors);
      } else {
        complain({ "": ["Something went wrong here; reload the page and try again."] });
      }
    } catch {
      complain({ "": ["The server could not be reached; nothing is lost, try again."] });
    } finally {
      delete form.dataset.busy;
      button.removeAttribute("aria-disabled");
    }
  }

  if (form) {
    sliders();
    models();
    quality();
    axes();
    estimates();
    form.addEventListener("submit", submit);
    by("dice").addEventListener("click", () => {
      by("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
      form.dispatchEvent(new Event("input"));
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(by("generate"));
    });
    form.addEventListener("click", (event) => {
      const link = event.target.closest("[data-prompt]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      by("prompt").value = link.dataset.prompt;
      link.closest("details").open = false;
      by("prompt").focus();
      by("prompt").dispatchEvent(new Event("input", { bubbles: true }));
    });
  }
}
