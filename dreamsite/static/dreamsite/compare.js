// The compare slider: a range input moves the cut between two pictures, so keyboard, pointer and touch all work.
document.addEventListener("input", (event) => {
  if (event.target.matches(".compare .slider")) {
    event.target.closest(".compare").style.setProperty("--at", `${event.target.value}%`);
  }
});
