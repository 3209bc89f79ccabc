// How the studio presents the chosen model: what it does, how long it usually takes, a sample, and its kind of prompt.

const models = JSON.parse(document.getElementById("model-presentations").textContent);

export function showModel(name) {
  const model = models[name];
  const chosen = document.getElementById("chosen-model");
  chosen.querySelector("[data-summary]").textContent = model.summary;
  chosen.querySelector("[data-seconds]").textContent = model.seconds;
  const sample = chosen.querySelector("img");
  sample.hidden = !model.sample;
  if (model.sample) sample.src = model.sample;
  document.querySelector("label[for=prompt]").textContent = model.prompt_label;
  document.getElementById("prompt").placeholder = model.placeholder;
}
