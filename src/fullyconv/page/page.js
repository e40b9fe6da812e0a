"use strict";

const all = (selector) => Array.from(document.querySelectorAll(selector));

/* The class whose button is pressed is drawn, and described below the figure. */
function showClass() {
  const chosen = document.querySelector("input[name=class]:checked").value;
  all("[data-class]").forEach((part) => part.classList.toggle("off", part.dataset.class !== chosen));
}

function showOpacity() {
  const slider = document.getElementById("opacity");
  document.documentElement.style.setProperty("--heat", slider.value / 100);
  document.getElementById("percent").textContent = slider.value + " %";
}

function showParts() {
  all("input[name=part]").forEach((box) =>
    all("[data-part=" + box.value + "]").forEach((part) => part.classList.toggle("off", !box.checked)));
}

function showLayers() {
  const box = document.getElementById("changed");
  document.getElementById("layers").classList.toggle("changed", box.checked);
}

const controls = [
  ["input[name=class]", showClass],
  ["#opacity", showOpacity],
  ["input[name=part]", showParts],
  ["#changed", showLayers],
];
for (const [selector, show] of controls) {
  all(selector).forEach((control) => control.addEventListener("input", show));
}

/* Browsers put controls back to where they were when a page is opened again, and say so to nobody. */
addEventListener("pageshow", () => controls.forEach(([, show]) => show()));
