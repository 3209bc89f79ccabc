// The studio's parameters: sliders, what the chosen model offers, the output format, the seed, and a contact sheet's
// axes.
import { showModel } from "./studio_model.js";

const form = document.getElementById("compose");
const byId = (id) => document.getElementById(id);

const TEXT_AXES = ["prompt", "negative_prompt", "model_id"];

const sliders = () =>
  Array.from(form.querySelectorAll("[data-slider]"), (field) => ({
    field,
    name: field.dataset.slider,
    number: field.querySelector("[type=number]"),
    range: field.querySelector("[type=range]"),
  }));

/** Fill empty numbers from their sliders: the API would use its own default, which the page does not show. */
export function applyDefaults() {
  for (const { number, range } of sliders()) number.value ||= range.value;
}

function startSliders() {
  for (const { number, range } of sliders()) {
    range.addEventListener("input", () => {
      number.value = range.value;
      form.dispatchEvent(new Event("input"));
    });
    number.addEventListener("input", () => number.value && (range.value = number.value));
    number.addEventListener("change", applyDefaults);
    range.addEventListener("dblclick", () => setSlider({ number, range }, recommended(range)));
  }
}

const recommended = (range) => range.list.options[0].value;

/** Set all sliders to what is recommended; to be quick, with half of the steps. */
function applyPreset(preset) {
  for (const slider of sliders()) {
    const isHalved = preset === "quick" && slider.name === "num_inference_steps";
    setSlider(slider, isHalved ? Math.ceil(recommended(slider.range) / 2) : recommended(slider.range));
  }
}

/** Show what has an effect on the chosen model. Numbers that nobody changed become the model's recommended values. */
function startModels() {
  const models = JSON.parse(byId("model-behaviour").textContent);
  const select = byId("model_id");
  let previous = models[select.querySelector("[selected]").value];

  function apply() {
    const model = models[select.value];
    for (const slider of sliders()) applySlider(slider, model.sliders[slider.name], previous.sliders[slider.name]);
    offer(form.querySelector('[data-field="negative_prompt"]'), model.negative_prompt);
    byId("num_images_per_prompt").max = model.images;
    applyAxes(model);
    for (const field of form.querySelectorAll("[data-lora]")) {
      offer(field, field.dataset.lora.split(" ").includes(select.value));
    }
    showModel(select.value);
    showExamples(select.value, model.examples);
    previous = model;
  }

  select.addEventListener("change", apply);
  // Going back, browsers fill the form in again after the page's scripts ran.
  addEventListener("pageshow", () => {
    if (models[select.value] !== previous) apply();
    for (const { number, range } of sliders()) if (number.value) range.value = number.value;
  });
}

/** Show or hide a field; what is hidden is disabled and not sent. */
function offer(field, isOffered) {
  field.hidden = !isOffered;
  field.querySelectorAll("[name]").forEach((control) => (control.disabled = !isOffered));
}

function applySlider({ field, number, range }, settings, previousSettings) {
  offer(field, settings.has_effect);
  const isUnchanged = number.value === previousSettings.value;
  number.max = settings.max;
  range.max = settings.slider_max;
  if (isUnchanged || Number(number.value) > Number(number.max)) number.value = settings.value;
  range.value = number.value;
  range.list.options[0].value = settings.value;
}

/** Set a slider and its number as its user would. */
function setSlider({ number, range }, value) {
  number.value = range.value = value;
  number.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Offer as axes of a contact sheet only what has an effect on the model. */
function applyAxes(model) {
  const ineffective = Object.keys(model.sliders).filter((name) => !model.sliders[name].has_effect);
  if (!model.negative_prompt) ineffective.push("negative_prompt");
  for (const option of form.querySelectorAll("[data-axis] option")) {
    option.hidden = option.disabled = ineffective.includes(option.value);
    if (option.disabled && option.selected) option.parentElement.value = "";
  }
}

function showExamples(model, prompts) {
  const menu = byId("ideas");
  menu.hidden = !prompts.length;
  menu.querySelector("strong").textContent = model;
  menu.querySelector("ul").replaceChildren(...prompts.map((prompt) => exampleItem(model, prompt)));
}

function exampleItem(model, prompt) {
  const query = new URLSearchParams({ model_id: model, prompt });
  const link = Object.assign(document.createElement("a"), { href: `?${query}`, textContent: prompt });
  link.dataset.prompt = prompt;
  const item = document.createElement("li");
  item.append(link);
  return item;
}

/** Offer the quality for lossy formats only. */
function startFormat() {
  const format = byId("output_format");
  const field = form.querySelector('[data-field="output_quality"]');
  const apply = () => offer(field, format.value !== "png");
  format.addEventListener("change", apply);
  apply();
}

function startSeed() {
  byId("dice").addEventListener("click", () => {
    byId("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    form.dispatchEvent(new Event("input"));
  });
}

/** Return how many different values an axis has, and show in which form they are written. */
function updateAxis(axis) {
  const parameter = byId(`${axis}_field`).value;
  const isText = TEXT_AXES.includes(parameter);
  const values = byId(axis);
  values.disabled = !parameter;
  values.placeholder = isText ? "one per line" : "2, 4, 7.5";
  if (!parameter) return 0;
  const parts = values.value.split(isText ? /\n/ : /[\s,;]+/);
  return new Set(parts.map((part) => part.trim()).filter(Boolean)).size;
}

function startAxes() {
  const update = () => {
    const [columns, rows] = [updateAxis("columns"), updateAxis("rows")];
    const cells = columns * (byId("rows_field").value ? rows : 1);
    byId("cells").textContent = columns ? `${cells} pictures` : "";
  };
  form.addEventListener("input", update);
  update();
}

export function startParameters() {
  startSliders();
  for (const button of form.querySelectorAll("[data-preset]")) {
    button.addEventListener("click", () => applyPreset(button.dataset.preset));
  }
  startModels();
  startFormat();
  startSeed();
  startAxes();
}
