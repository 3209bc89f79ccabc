// A generation's page reloads when the generation ends. While a title or note is typed and not saved, it does not: it
// says so, and the page shows the result after saving.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const live = document.getElementById("live");
  if (event.target !== live || !event.detail.xhr.getResponseHeader("HX-Refresh")) return;
  const fields = [...document.querySelectorAll("#notes input, #notes textarea")];
  if (fields.every((field) => field.value === field.defaultValue)) return;
  event.preventDefault();
  const message = document.createElement("span");
  message.textContent = "It has finished. Save title and note to see the result.";
  live.replaceChildren(message);
});
