"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const axis = document.getElementById("axis");

// --- theme: the system's, until the button is pressed
const dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(name) {
  root.dataset.theme = name;
  drawAll();
}
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
document.getElementById("theme").onclick = () =>
  setTheme(root.dataset.theme === "dark" ? "light" : "dark");

// --- plots
function draw(id, traces, layout) {
  const style = getComputedStyle(root);
  const [text, line] = ["--text", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axisStyle = { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true };
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: "system-ui, sans-serif", size: 12 },
    margin: { l: 48, r: 12, t: 12, b: 40 },
    showlegend: false,
    hovermode: "closest", dragmode: "zoom",
    ...layout,
    xaxis: { ...axisStyle, ...layout.xaxis },
    yaxis: { ...axisStyle, ...layout.yaxis },
  };
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  Plotly.react(id, traces, base, options);
}

function drawCurves(kind) {
  const metric = document.querySelector(`select[data-kind=${kind}]`).value;
  const epochs = axis.value === "epoch";
  const traces = (data.curves[kind][metric] || []).flatMap((points, i) => {
    if (!points) return [];
    const run = data.runs[i];
    const x = epochs ? points[0].map((value) => value / run.epoch) : points[0];
    const dots = kind === "evaluation" || x.length < 3; // a lone point has no line
    const mode = dots ? "lines+markers" : "lines";
    return [{ type: "scatter", mode, name: run.name, x, y: points[1], line: run.style }];
  });
  const layout = { xaxis: { title: { text: axis.value } }, yaxis: { title: { text: metric } } };
  draw(`plot-${kind}`, traces, layout);
}

function drawAll() {
  for (const kind of ["evaluation", "training"]) drawCurves(kind);
  data.figures.forEach((figure, i) => draw(`figure-${i}`, figure.traces, figure.layout));
}

for (const select of document.querySelectorAll("select[data-kind]")) {
  const first = ["AP", "total_loss"];
  const names = Object.keys(data.curves[select.dataset.kind]);
  names.sort((a, b) => first.includes(b) - first.includes(a));
  select.append(...names.map((name) => new Option(name)));
  select.onchange = () => drawCurves(select.dataset.kind);
}
axis.onchange = drawAll;
axis.closest("p").hidden = !data.runs.every((run) => run.epoch);

// --- tables: numbers start with the largest, text with A
function sortBy(head) {
  const numeric = head.classList.contains("num");
  const first = numeric ? "descending" : "ascending";
  const other = numeric ? "ascending" : "descending";
  const order = head.ariaSort === first ? other : first;
  for (const cell of head.parentNode.cells) cell.ariaSort = null;
  head.ariaSort = order;
  const key = (row) => {
    const cell = row.cells[head.cellIndex];
    return numeric ? Number(cell.dataset.value) : cell.textContent;
  };
  const compare = (a, b) =>
    numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
  const sign = order === "ascending" ? 1 : -1;
  const body = head.closest("table").tBodies[0];
  body.append(...[...body.rows].sort((a, b) => sign * compare(key(a), key(b))));
}
for (const head of document.querySelectorAll(".sortable thead th")) {
  head.tabIndex = 0;
  head.onclick = () => sortBy(head);
  head.onkeydown = (event) => event.key === "Enter" && sortBy(head);
}

// --- images
const zoom = document.getElementById("zoom");
const images = [...document.querySelectorAll(".zoom")];
let shown = 0;
function enlarge(number) {
  shown = (number + images.length) % images.length;
  const button = images[shown];
  const view = button.firstElementChild.cloneNode(true);
  view.setAttribute("font-size", view.getAttribute("font-size") / 2); // it is shown larger
  zoom.querySelector("div").replaceChildren(view);
  const file = button.closest("article").querySelector("h3").textContent;
  zoom.querySelector("p").textContent = `${file}, ${button.nextElementSibling.textContent}`;
  if (!zoom.open) zoom.showModal();
}
images.forEach((button, i) => { button.onclick = () => enlarge(i); });
zoom.onkeydown = (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) enlarge(shown + step);
};
for (const box of document.querySelectorAll(".legend input")) {
  box.onchange = () => document.body.classList.toggle(`hide-${box.dataset.kind}`, !box.checked);
}
zoom.onclick = () => zoom.close();

setTheme(dark.matches ? "dark" : "light");
