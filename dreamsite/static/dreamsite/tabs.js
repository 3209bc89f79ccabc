// On narrow screens the admin's tabs scroll; the current one is in view from the start.
document.querySelector(".bar nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
