"use strict";
// Curves and charts, by Plotly.
const KINDS = (data.kinds ?? []).map(([kind]) => kind); // those of detections, then missed
const THRESHOLDS = Array.from({ length: 96 }, (_, i) => (i + 5) / 100);
const axis = one("#axis");
const DASHED = { solid: "dash", dash: "dot", dot: "dashdot", dashdot: "solid" };

/** Whether a run's lines are drawn: its group is checked. */
const isDrawn = (run) =>
  !data.groups.some((group, i) => state.hiddenGroups.has(i) && group.runs.includes(run));

/** A trace in the colour and dash of its run, which is its "meta". */
function styled(trace) {
  if (trace.meta === undefined) return trace;
  const style = data.runs[trace.meta].style;
  if (trace.type === "bar") return { ...trace, marker: { color: style.color } };
  return { ...trace, line: { ...style, ...trace.line } };
}

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
  const drawn = traces.filter((t) => t.meta === undefined || isDrawn(t.meta)).map(styled);
  Plotly.react(id, drawn, base, options);
}

/** A figure as a file, with the legend that the page has elsewhere. */
function saveFigure(id, format) {
  const plot = document.getElementById(id);
  const title = one("b", plot.parentNode)?.textContent ?? one("select", plot.parentNode).value;
  const paper = getComputedStyle(root).getPropertyValue("--card").trim();
  const layout = {
    ...plot.layout, title: { text: title }, showlegend: true, paper_bgcolor: paper,
    margin: { ...plot.layout.margin, t: 60 },
    legend: { orientation: "v" },
  };
  const size = { width: 900, height: 560, scale: format === "png" ? 2 : 1 };
  const filename = title.replace(/\W+/g, "_");
  Plotly.downloadImage({ data: plot.data, layout }, { format, filename, ...size });
}
for (const button of all("[data-plot]"))
  button.onclick = () => saveFigure(button.dataset.plot, button.dataset.format);

// --- training
/** The mean of a group's curves with their range, if they have one axis; else each of them. */
function curvesOfGroup(group, curves, line) {
  const runs = group.runs.filter((run) => curves[run]);
  const axes = new Set(runs.map((run) => curves[run][0]));
  if (runs.length < 2 || axes.size > 1 || !one("#mean")?.checked)
    return runs.flatMap((run) => [line(run, curves[run][0], curves[run][1], data.runs[run].name)]);
  const [number] = axes;
  const columns = data.curves.axes[number].map((_, i) => runs.map((run) => curves[run][1][i]));
  const mean = columns.map((values) => values.reduce((a, b) => a + b, 0) / runs.length);
  const color = data.runs[runs[0]].style.color;
  const bound = (pick, more) => ({
    ...line(runs[0], number, columns.map((values) => pick(...values)), group.name),
    mode: "lines", hoverinfo: "skip", showlegend: false, ...more, line: { width: 0, color },
  });
  const fill = { fill: "tonexty", fillcolor: `${color}33` };
  return [bound(Math.min), bound(Math.max, fill), line(runs[0], number, mean, group.name)];
}

function drawCurves(kind) {
  const metric = one(`select[data-kind=${kind}]`).value;
  const line = (run, number, y, name) => {
    const iterations = data.curves.axes[number];
    const epochs = axis.value === "epoch";
    const x = epochs ? iterations.map((value) => value / data.runs[run].epoch) : iterations;
    const dots = kind === "evaluation" || x.length < 3; // a lone point has no line
    return { type: "scatter", mode: dots ? "lines+markers" : "lines", name, meta: run, x, y };
  };
  const curves = data.curves[kind][metric] ?? [];
  const traces = data.groups.flatMap((group) => curvesOfGroup(group, curves, line));
  const layout = { xaxis: { title: { text: axis.value } }, yaxis: { title: { text: metric } } };
  layout.xaxis.rangemode = "tozero";
  if (kind === "evaluation") layout.yaxis.rangemode = "tozero";
  draw(`plot-${kind}`, traces, layout);
}

for (const select of all("select[data-kind]")) {
  const first = ["AP", "total_loss"];
  const names = Object.keys(data.curves[select.dataset.kind]);
  names.sort((a, b) => first.includes(b) - first.includes(a));
  select.append(...names.map((name) => new Option(name)));
  select.onchange = () => drawCurves(select.dataset.kind);
}
axis.onchange = () => ["evaluation", "training"].forEach(drawCurves);
axis.closest("label").hidden = !data.runs.every((run) => run.epoch);
if (one("#mean")) one("#mean").onchange = axis.onchange;

// --- thresholds and errors, from counts of judged detections
/** Right, wrong (both from each threshold on), precision, recall and F1 of a run. */
function rates(run) {
  const counts = data.counts[run];
  const right = counts.at(-1);
  const wrong = right.map((_, i) => counts.slice(0, -1).reduce((sum, kind) => sum + kind[i], 0));
  const ratio = (top, bottom) => (bottom ? top / bottom : null);
  return {
    right, wrong,
    precision: right.map((n, i) => ratio(n, n + wrong[i])),
    recall: right.map((n) => ratio(n, data.objects)),
    f1: right.map((n, i) => ratio(2 * n, n + wrong[i] + data.objects)),
  };
}
const judged = data.runs.map((_, i) => i).filter((i) => data.counts?.[i]);
const ratesOf = Object.fromEntries(judged.map((run) => [run, rates(run)]));
const step = () => Math.round(100 * state.threshold) - 5;

function drawThresholds() {
  const line = (run, y, name, more) => ({
    type: "scatter", mode: "lines", name, meta: run, x: THRESHOLDS, y: ratesOf[run][y], ...more,
  });
  const position = { x0: state.threshold, x1: state.threshold, yref: "paper", y0: 0, y1: 1 };
  const marker = { type: "line", ...position, line: { color: "#808080", width: 2 } };
  const layout = (y) => ({
    shapes: [marker],
    xaxis: { title: { text: "threshold" }, range: [0, 1] },
    yaxis: { title: { text: y }, range: [0, 1.02] },
  });
  draw("plot-f1", judged.map((run) => line(run, "f1", data.runs[run].name)), layout("F1"));
  const pairs = chosen().flatMap((run) => [
    line(run, "precision", `${data.runs[run].name}: precision`),
    line(run, "recall", `${data.runs[run].name}: recall`,
      { line: { dash: DASHED[data.runs[run].style.dash] } }),
  ]);
  draw("plot-pr", pairs, layout("precision, recall"));
}

/** A long name on several lines. */
const wrapped = (name) =>
  name.length > 24 ? name.replace(/(.{16,30}?)[ /_](?=.{6})/g, "$1<br>") : name;

function drawErrors() {
  const missed = (run) => data.objects - ratesOf[run].right[step()];
  const traces = KINDS.map((kind, i) => ({
    type: "bar", orientation: "h", name: data.kinds[i][1], marker: { color: data.kinds[i][2] },
    y: judged.map((run) => wrapped(data.runs[run].name)),
    x: judged.map((run) =>
      (kind === "missed" ? missed(run) : data.counts[run][i][step()]) / data.all_images),
  }));
  draw("plot-errors", traces, barLayout("errors for each image"));
}
const barLayout = (title) => ({
  barmode: "stack",
  xaxis: { title: { text: title } }, yaxis: { autorange: "reversed" },
});

function fillThresholdTable() {
  const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(1)} %`);
  const rows = chosen().map((run) => {
    const r = ratesOf[run];
    const best = THRESHOLDS[r.f1.lastIndexOf(Math.max(...r.f1))];
    const use = element("button", { type: "button" }, best.toFixed(2));
    use.title = "use this threshold";
    use.onclick = () => update({ threshold: best });
    const texts = [
      percent(r.precision[step()]), percent(r.recall[step()]), percent(r.f1[step()]),
      (r.wrong[step()] / data.all_images).toFixed(2),
    ];
    const cells = texts.map((text) => element("td", { className: "num" }, text));
    const head = element("th", {}, data.runs[run].name);
    return element("tr", {}, head, ...cells, element("td", { className: "num" }, use));
  });
  const from = `scores from ${state.threshold.toFixed(2)}`;
  const heads = [from, "precision", "recall", "F1", "wrong boxes for each image", "best F1 at"];
  const head = element("tr", {}, ...heads.map((text) => element("th", {}, text)));
  one("#at-threshold").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

/** Each class's best thresholds in the runs that are looked at. */
function fillClassTables() {
  const heads = ["class", "objects", "F1 at", "F1", "precision", "recall", "IoU", "LRP at", "D-ECE"];
  const tables = chosen().filter((run) => data.thresholds[run]).map((run) => {
    const cell = (value, i) => element(i ? "td" : "th", {
      className: i ? "num" : "", "data-value": value ?? -1,
    }, i > 1 && value !== null ? value.toFixed(2) : String(value ?? "–"));
    const body = data.thresholds[run].map((row) => element("tr", {}, ...row.map(cell)));
    const head = heads.map((text, i) => element("th", { className: i ? "num" : "" }, text));
    const table = element("table", { className: "sortable" },
      element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
    makeSortable(table);
    const title = element("h3", {}, `${data.runs[run].name}: each class's best thresholds`);
    return element("div", {}, title, element("div", { className: "wide tall" }, table));
  });
  one("#class-thresholds").replaceChildren(...tables);
}

function drawFigures() {
  data.figures.forEach((figure, i) => {
    const box = document.getElementById(`figure-${i}`);
    box.parentNode.hidden = figure.run !== undefined && judged.length > 0
      && !chosen().includes(figure.run);
    const layout = figure.bars ? { ...barLayout(), ...figure.layout,
      yaxis: { autorange: "reversed" } } : figure.layout;
    const traces = figure.bars
      ? figure.traces.map((trace) => ({ ...trace, y: trace.y.map(wrapped) })) : figure.traces;
    if (!box.parentNode.hidden) draw(`figure-${i}`, traces, layout);
  });
}
