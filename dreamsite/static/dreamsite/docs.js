// Swagger UI on our own document, in the theme of the site.
{
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const follow = () => {
    const theme = root.dataset.theme;
    root.classList.toggle("dark-mode", theme === "dark" || (theme !== "light" && dark.matches));
  };
  follow();
  dark.addEventListener("change", follow);
  new MutationObserver(follow).observe(root, { attributeFilter: ["data-theme"] });

  const docs = document.getElementById("docs");
  SwaggerUIBundle({
    domNode: docs,
    url: docs.dataset.document,
    deepLinking: true,
    tryItOutEnabled: true,
    validatorUrl: null, // or it would show the document's address to a host that is not ours
  });
}
