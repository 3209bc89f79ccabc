// Signing in again, in another tab, changes the CSRF token. A form that was open before has the old one, so every form
// sends the token of the cookie.
document.addEventListener("formdata", (event) => {
  const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
  if (token && event.formData.has("csrfmiddlewaretoken")) event.formData.set("csrfmiddlewaretoken", token[1]);
});

// A page that answers a form and shows something once, such as a new token: reloading it must not send the form again.
if (document.querySelector("[data-once]")) history.replaceState(history.state, "", location.href);
