// Comparing two pictures: by a slider, side by side, or by holding. Loaded before the page is drawn, since the way that was
// chosen last decides the shape of it; the stylesheet does the rest.
{
  const root = document.documentElement;
  const VIEWS = ["slider", "side", "hold"];

  function view() {
    try {
      const kept = localStorage.getItem("compare");
      return VIEWS.includes(kept) ? kept : "slider";
    } catch {
      return "slider"; // storage may be forbidden
    }
  }

  function show(chosen) {
    root.dataset.compare = chosen;
    for (const button of document.querySelectorAll("[data-view]")) {
      button.setAttribute("aria-pressed", String(button.dataset.view === chosen));
    }
  }

  function hold(button, is) {
    button.setAttribute("aria-pressed", String(is));
    button.closest(".compare").classList.toggle("held", is);
  }

  show(view());
  addEventListener("DOMContentLoaded", () => show(view()));

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-view]");
    if (!button) return;
    show(button.dataset.view);
    try {
      localStorage.setItem("compare", button.dataset.view);
    } catch {
      // The choice then lasts as long as the page.
    }
  });

  // A range input moves the cut, so keyboard, pointer and touch all work.
  document.addEventListener("input", (event) => {
    if (event.target.matches(".compare .slider")) {
      event.target.closest(".compare").style.setProperty("--at", `${event.target.value}%`);
    }
  });
  // Its arrows are its own: they must not turn the page.
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.target.matches?.(".slider") && event.key.startsWith("Arrow")) event.stopPropagation();
    },
    true,
  );

  document.addEventListener("pointerdown", (event) => {
    const button = event.target.closest?.(".hold");
    if (!button || event.button) return;
    button.setPointerCapture(event.pointerId);
    hold(button, true);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture", "focusout"]) {
    document.addEventListener(end, (event) => {
      if (event.target.matches?.(".hold")) hold(event.target, false);
    });
  }
  document.addEventListener("contextmenu", (event) => {
    if (event.target.matches?.(".hold[aria-pressed=true]")) event.preventDefault();
  });
  for (const [type, is] of [["keydown", true], ["keyup", false]]) {
    document.addEventListener(type, (event) => {
      if (!event.target.matches?.(".hold") || (event.key !== " " && event.key !== "Enter")) return;
      event.preventDefault();
      hold(event.target, is);
    });
  }
}
