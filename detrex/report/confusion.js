"use strict";
// Confusion matrices.
function describe({ truth, label }) {
  if (label === BACKGROUND) return `${nameOf(truth)} missed`;
  return `${nameOf(truth)} ${truth === label ? "detected as" : "taken for"} ${nameOf(label)}`;
}

function matrix(run) {
  const title = element("h3", {}, data.runs[run].name);
  const cells = data.confusion[run][one("#confusion-threshold").value];
  const sums = {}, counts = {};
  for (const [truth, label, count] of cells) {
    sums[truth] = (sums[truth] ?? 0) + count;
    counts[`${truth},${label}`] = count;
  }
  const open = (truth, label) => () => {
    const threshold = Number(one("#confusion-threshold").value);
    update({ cell: { run, truth, label }, left: run, right: -1, threshold });
    one("#images").scrollIntoView();
  };
  const labels = [...data.classes.keys(), BACKGROUND];
  const rows = labels.map((truth) => element("tr", {}, element("th", {}, nameOf(truth)),
    ...labels.map((label) => {
      const count = counts[`${truth},${label}`];
      if (!count) return element("td");
      const button = element("button", { type: "button", tabIndex: -1 }, String(count));
      button.title = `${describe({ truth, label })}: ${count}, ${(100 * count / sums[truth]).toFixed(1)} %`;
      button.style.setProperty("--share", `${Math.round(100 * count / sums[truth])}%`);
      button.onclick = open(truth, label);
      return element("td", {}, button);
    })));
  const head = labels.map((label) => element("th", {}, element("span", {}, detectedAs(label))));
  const table = element("table", { className: "matrix" },
    element("thead", {}, element("tr", {}, element("th"), ...head)), element("tbody", {}, ...rows));
  const first = one("button", table);
  if (first) first.tabIndex = 0;
  table.onkeydown = walk;
  const often = cells.filter(([truth, label]) => truth !== label && truth < BACKGROUND && label < BACKGROUND)
    .sort((a, b) => b[2] - a[2]).slice(0, 6).map(([truth, label, count]) => {
      const button = element("button", { type: "button" }, `${nameOf(truth)} → ${nameOf(label)} (${count})`);
      button.onclick = open(truth, label);
      return button;
    });
  return element("div", {}, title, element("p", { className: "often" }, "Most often: ", ...often),
    element("div", { className: "wide tall" }, table));
}

/** Arrow keys go to the next cell that is not empty; Tab leaves the matrix. */
function walk(event) {
  const [down, right] = {
    ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
  }[event.key] ?? [0, 0];
  if (!down && !right) return;
  event.preventDefault();
  const cell = event.target.closest("td"), { rows } = cell.closest("tbody");
  let row = [...rows].indexOf(cell.parentNode), column = cell.cellIndex, next = null;
  while (!next && rows[row += down]?.cells[column += right]) next = one("button", rows[row].cells[column]);
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
function drawConfusion() {
  one(".matrices").replaceChildren(...chosen().map(matrix));
}
