"use strict";
// What the reader chooses, and what is drawn then; the page begins here.
function makeChoices() {
  for (const select of all("[data-choice]")) {
    const which = select.dataset.choice;
    if (which === "right") select.append(new Option("no other run", -1));
    select.append(...judged.map((run) => new Option(data.runs[run].name, run)));
    select.onchange = () => update({ [which]: Number(select.value), cell: null });
  }
  one("input.threshold").oninput = (event) => {
    state.threshold = Number(event.target.value);
    cancelAnimationFrame(makeChoices.frame);
    makeChoices.frame = requestAnimationFrame(() => update({}));
  };
  one("#confusion-threshold").onchange = drawConfusion;
  one("#more").onclick = () => {
    state.limit += PAGE;
    drawGallery();
  };
  const other = data.groups.slice(1).map((group) => group.runs.find((run) => judged.includes(run)));
  state.left = judged[0];
  state.right = other.find((run) => run !== undefined && run !== state.left) ?? judged[1] ?? -1;
  state.threshold = Number(one("input.threshold").value);
}

/** Take over choices and draw what depends on them. */
function update(changes) {
  const before = [state.left, state.right].join();
  Object.assign(state, changes);
  if (Object.keys(changes).length) state.limit = PAGE;
  if (state.right === state.left) state.right = -1;
  for (const select of all("[data-choice]")) select.value = state[select.dataset.choice];
  for (const button of all("[data-gallery]"))
    button.ariaPressed = String(!state.cell && button.dataset.gallery === state.kind);
  for (const box of all(".legend input")) box.checked = !state.hidden.has(box.dataset.kind);
  one("input.threshold").value = state.threshold;
  one(".slider output").textContent = state.threshold.toFixed(2);
  drawGallery();
  if (zoom.open) drawZoom();
  fillThresholdTable();
  drawThresholds();
  drawErrors();
  if (before === [state.left, state.right].join()) return;
  drawConfusion();
  fillClassTables();
  drawFigures();
}

function openFromAddress() {
  const link = new URLSearchParams(location.hash.slice(1));
  const image = data.images.findIndex(({ name }) => name === link.get("image"));
  if (image < 0 || !judged.length) return;
  const known = (run, other) => (judged.includes(run) ? run : other);
  update({
    left: known(Number(link.get("run")), state.left),
    right: known(Number(link.get("beside")), -1),
    threshold: Math.min(0.95, Math.max(0.05, Number(link.get("scores")) || state.threshold)),
    kind: ["mistakes", ...KINDS].includes(link.get("kind")) ? link.get("kind") : "mistakes",
    cell: null,
  });
  if (!order.includes(image)) order.unshift(image);
  enlarge(order.indexOf(image));
}

function drawAll() {
  ["evaluation", "training"].forEach(drawCurves);
  drawFigures();
  if (!judged.length) return;
  drawThresholds();
  drawErrors();
}
for (const box of all("[data-group]"))
  box.onchange = () => {
    state.hiddenGroups[box.checked ? "delete" : "add"](Number(box.dataset.group));
    drawAll();
  };

if (judged.length) {
  makeChoices();
  makeToggles();
  state.limit = PAGE;
  drawConfusion();
  fillClassTables();
  update({});
}
setTheme(dark.matches ? "dark" : "light");
openFromAddress();
addEventListener("hashchange", openFromAddress);
