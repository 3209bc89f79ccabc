// What the browser does for the site without a page: it takes a picture that a phone shares with the installed site, and
// opens the page of a notification. It answers no other request, and keeps no page.
//
// The picture waits in the browser for the studio, one at a time; it is not sent before one generates. So no form of
// another site sends anything either.

const KEPT = "received-picture";
const receiver = new URL("studio/receive", self.registration.scope);

/** Keep the shared picture, and lead to the studio, which takes it. */
async function keep(request) {
  const picture = (await request.formData()).get("image");
  if (picture instanceof File && picture.size) {
    const headers = { "X-Name": encodeURIComponent(picture.name), "X-Received": String(Date.now()) };
    await (await caches.open(KEPT)).put(receiver, new Response(picture, { headers }));
  }
  return Response.redirect(new URL("?received", self.registration.scope), 303);
}

async function showPage(address) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find(({ url }) => url === address);
  await (page ? page.focus() : self.clients.openWindow(address));
}

addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "POST" && new URL(url).pathname === receiver.pathname) event.respondWith(keep(event.request));
});
addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(showPage(event.notification.data));
});
