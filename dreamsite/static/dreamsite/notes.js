// What is being typed about a generation outlives its end: the page shows that only once the words are saved.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const live = document.getElementById("live");
  if (event.target !== live || !event.detail.xhr.getResponseHeader("HX-Refresh")) return;
  const isTyped = (field) => field.value !== field.defaultValue;
  if (![...document.querySelectorAll("#own input, #own textarea")].some(isTyped)) return;
  event.preventDefault();
  const words = document.createElement("span");
  words.textContent = "It has ended. Save title and note, and it is shown.";
  live.replaceChildren(words);
});
