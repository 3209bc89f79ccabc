// Whoever signs in again, in another tab, gets another token against forgery. A form that is open still holds the one from
// before, so what is sent has the one of the cookie.
document.addEventListener("formdata", (event) => {
  const token = /(?:^|; )csrftoken=([^;]+)/.exec(document.cookie);
  if (token && event.formData.has("csrfmiddlewaretoken")) event.formData.set("csrfmiddlewaretoken", token[1]);
});

// A page that answers a form and shows what is shown once: loading it again asks for the page, and does not send the form again.
if (document.querySelector("[data-once]")) history.replaceState(history.state, "", location.href);
