// Menus are <details class="menu">: here they close on Escape, on a click elsewhere and when the focus leaves.
{
  const close = (except) =>
    document.querySelectorAll("details.menu[open]").forEach((menu) => {
      if (!menu.contains(except)) menu.open = false;
    });

  document.addEventListener("click", (event) => close(event.target));
  document.addEventListener("focusin", (event) => close(event.target));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.activeElement.closest("details.menu[open]");
    close(null);
    menu?.querySelector("summary").focus();
  });
}
