// Swagger UI for this service's OpenAPI document, in the theme of the site.

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const { theme } = root.dataset;
  root.classList.toggle("dark-mode", theme === "dark" || (theme !== "light" && systemDark.matches));
}

applyTheme();
systemDark.addEventListener("change", applyTheme);
new MutationObserver(applyTheme).observe(root, { attributeFilter: ["data-theme"] });

const container = document.getElementById("docs");
SwaggerUIBundle({
  domNode: container,
  url: container.dataset.document,
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the default sends the document's address to a validator of Swagger's
});
