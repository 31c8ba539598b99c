"use strict";
// Images with boxes, confusion matrices, and what happens when the reader chooses.
const TRUTH = "#2ecc40", RIGHT = "#4aa8ff"; // colours of boxes on photographs
const PAGE = 24; // images until "Show more"
const BACKGROUND = data.classes?.length;
const SVG = "http://www.w3.org/2000/svg";
const nameOf = (label) => (label === BACKGROUND ? "nothing" : data.classes[label]);
const detectedAs = (label) => (label === BACKGROUND ? "missed" : nameOf(label));
const LOOKS = { truth: ["objects", TRUTH], right: ["right", RIGHT], mistakes: ["all mistakes", "#808080"] };
for (const [kind, ...look] of data.kinds ?? []) LOOKS[kind] = look;
const kindName = (kind) => LOOKS[kind][0];
const kindColor = (kind) => LOOKS[kind][1];

/** Detections from the threshold on, best score first, and numbers of the objects missed. */
function verdict(run, image) {
  const row = data.boxes[run][image], { objects } = data.images[image];
  const least = Math.round(1000 * state.threshold);
  const detections = [];
  for (let i = 0; i < row.length; i += 9) {
    if (row[i + 5] < least) break;
    const [label, score, kind, target, confused] = row.slice(i + 4, i + 9);
    const truth = confused < 0 ? BACKGROUND : objects[confused][4];
    detections.push({
      box: row.slice(i, i + 4), label, score: score / 1000, target, confused, truth,
      kind: kind < 0 ? "right" : KINDS[kind],
    });
  }
  const without = (key, those) => {
    const taken = new Set(those.map((d) => d[key]));
    return objects.map((_, i) => i).filter((i) => !taken.has(i));
  };
  return {
    detections,
    wrong: detections.filter((d) => d.kind !== "right"),
    missed: without("target", detections.filter((d) => d.kind === "right")),
    unseen: without("confused", detections), // whatever their class
  };
}

/** The detections, and the numbers of objects, for which an image is in the gallery. */
function reasons(run, image) {
  const { detections, wrong, missed, unseen } = verdict(run, image);
  const { objects } = data.images[image];
  if (state.cell) {
    const { truth, label } = state.cell;
    if (label === BACKGROUND)
      return { wrong: [], missed: unseen.filter((i) => objects[i][4] === truth) };
    return { wrong: detections.filter((d) => d.label === label && d.truth === truth), missed: [] };
  }
  if (state.kind === "mistakes") return { wrong, missed };
  if (state.kind === "missed") return { wrong: [], missed };
  return { wrong: wrong.filter((d) => d.kind === state.kind), missed: [] };
}

/** Numbers of the gallery's images, the worst first: most mistakes, or the best wrong score. */
function ordered() {
  const run = state.cell?.run ?? state.left;
  const byCount = state.kind === "mistakes" && !state.cell;
  const rated = data.images.map((_, image) => {
    const { wrong, missed } = reasons(run, image);
    const worst = byCount || !wrong.length ? wrong.length : wrong[0].score;
    return { image, rating: worst + missed.length };
  });
  return rated.filter((entry) => entry.rating > 0).sort((a, b) => b.rating - a.rating)
    .map((entry) => entry.image);
}

// --- drawing
function shape(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

/** Where a label fits without hiding another one or leaving the image; null for nowhere. */
function labelPlace([x, y, w, h], width, size, [imageWidth, imageHeight], taken) {
  const tries = [[x, y - size], [x, y + h], [x, y], [x + w - width, y - size], [x, y + h - size],
    [x + w, y]];
  for (const [left, top] of tries) {
    const place = {
      left: Math.max(0, Math.min(left, imageWidth - width)),
      top: Math.max(0, Math.min(top, imageHeight - size)),
    };
    const free = taken.every((other) =>
      place.left + width <= other.left || other.left + other.width <= place.left
      || place.top + size <= other.top || other.top + size <= place.top);
    if (free) return { ...place, width };
  }
  return null;
}

/** An image as SVG with the boxes of a run that are not hidden: objects, right ones, errors, and
 *  on top those for which it is in the gallery. `large` has all labels. */
function picture(run, image, large) {
  const { name, size, uri, objects, crowds } = data.images[image];
  const { detections, missed } = verdict(run, image);
  const shown = reasons(run, image);
  const focus = new Set([...shown.wrong.map((d) => `d${d.box}${d.label}`),
    ...shown.missed.map((i) => `m${i}`)]);
  const boxes = [
    ...crowds.map((o) => ({ box: o, kind: "truth", text: `${nameOf(o[4])}, crowd` })),
    ...objects.map((o) => ({ box: o, kind: "truth", text: nameOf(o[4]) })),
    ...[...detections].reverse().map((d) => ({
      ...d, focus: focus.has(`d${d.box}${d.label}`),
      text: `${nameOf(d.label)} ${d.score.toFixed(2)}`
        + (d.kind === "right" || !large ? "" : `, ${kindName(d.kind)}`),
    })),
    ...missed.map((i) => ({
      box: objects[i], kind: "missed", focus: focus.has(`m${i}`),
      text: nameOf(objects[i][4]) + (large ? ", missed" : ""),
    })),
  ].filter((b) => !state.hidden.has(b.kind));
  const rank = (b) => (b.kind === "truth" ? 0 : b.kind === "right" ? 1 : 2) + (b.focus ? 3 : 0);
  boxes.sort((a, b) => rank(a) - rank(b)); // stable
  const view = shape("svg", { viewBox: `0 0 ${size.join(" ")}`, xmlns: SVG });
  view.append(shape("image", { width: size[0], height: size[1], href: uri }));
  const faint = (b) => state.kind !== "mistakes" && !b.focus && b.kind !== "truth";
  for (const b of boxes) {
    const [x, y, width, height] = b.box;
    const dash = { missed: "6 4", truth: "2 3" }[b.kind] ?? "none";
    const rect = shape("rect", {
      x, y, width, height, class: b.kind, fill: "none", stroke: kindColor(b.kind),
      "stroke-width": b.focus ? 3 : 2, "stroke-dasharray": dash,
      "vector-effect": "non-scaling-stroke", opacity: faint(b) ? 0.45 : 1,
    });
    rect.append(shape("title", {}, b.text));
    view.append(rect);
  }
  const crowded = boxes.filter((b) => b.focus).length > 8;
  const font = Math.max(...size) * (large ? 0.026 : 0.05), taken = [];
  for (const b of boxes.reverse()) {
    if (!large && (!b.focus || crowded)) continue;
    const place = labelPlace(b.box, 0.62 * font * b.text.length, 1.2 * font, size, taken);
    if (!place) continue;
    taken.push(place);
    view.append(shape("text", {
      x: place.left, y: place.top + 0.95 * font, "font-size": font, fill: "#fff", stroke: "#000",
      "font-family": "system-ui, sans-serif", "font-weight": 600, "paint-order": "stroke",
      "stroke-width": 0.2 * font, "stroke-linejoin": "round",
    }, b.text));
  }
  view.setAttribute("aria-label", name);
  return view;
}

function summary(run, image) {
  const { wrong, missed } = verdict(run, image);
  const counts = KINDS.map((kind) => [kind,
    kind === "missed" ? missed.length : wrong.filter((d) => d.kind === kind).length]);
  const texts = counts.filter(([, n]) => n).map(([kind, n]) => `${n} ${kindName(kind)}`);
  return texts.join(", ") || "no mistake";
}

function figureOf(run, image, large) {
  const name = large ? `${data.runs[run].name}: ` : ""; // else the bar says it
  const caption = element("figcaption", {}, name + summary(run, image));
  return element("figure", {}, picture(run, image, large), caption);
}

// --- gallery
let order = []; // of the gallery's images
function drawGallery() {
  order = ordered();
  const cards = order.slice(0, state.limit).map((image, i) => {
    const views = chosen().map((run) => figureOf(run, image, false));
    const button = element("button", { type: "button", className: "zoom" }, ...views);
    button.onclick = () => enlarge(i);
    const title = element("h3", {}, data.images[image].name);
    return element("article", {}, title, button);
  });
  const gallery = one("#gallery");
  gallery.classList.toggle("pairs", chosen().length > 1);
  gallery.replaceChildren(...cards);
  one("#more").hidden = order.length <= state.limit;
  const all = data.all_images.toLocaleString("en"), here = data.images.length;
  const of = here < data.all_images ? `the ${here} of ${all} images that are on this page` : `all ${all} images`;
  const run = data.runs[state.cell?.run ?? state.left].name;
  const what = state.cell
    ? describe(state.cell)
    : state.kind === "mistakes" ? "mistakes" : `“${kindName(state.kind)}”`;
  const note = one("#gallery-note");
  note.textContent = `${order.length} image${order.length === 1 ? "" : "s"} with ${what} in ${run}, among ${of}. `
    + (state.cell ? "" : "Click to enlarge, then ← and → for the next.");
  if (state.cell) {
    const back = element("button", { type: "button" }, "All mistakes again");
    back.onclick = () => update({ cell: null });
    note.append(back);
  }
}

function makeToggles() {
  const kinds = ["mistakes", ...KINDS];
  one("#gallery-kinds").append(...kinds.map((kind) => {
    const button = element("button", { type: "button", "data-gallery": kind }, kindName(kind));
    button.style.setProperty("--kind", kindColor(kind));
    button.onclick = () => update({ kind, cell: null });
    return button;
  }));
  for (const legend of all(".legend")) {
    legend.append("Boxes: ", ...["truth", "right", ...KINDS].map((kind) => {
      const box = element("input", { type: "checkbox", checked: true, "data-kind": kind });
      box.onchange = () => {
        state.hidden[box.checked ? "delete" : "add"](kind);
        update({});
      };
      const label = element("label", { className: kind }, box, ` ${kindName(kind)}`);
      label.style.setProperty("--kind", kindColor(kind));
      return label;
    }));
  }
}

// --- the enlarged view, whose address is a link to it
const zoom = one("#zoom");
let shownImage = 0;
function enlarge(place) {
  shownImage = order[(place + order.length) % order.length];
  drawZoom();
  if (!zoom.open) zoom.showModal();
}
function drawZoom() {
  const { name } = data.images[shownImage];
  one("b", zoom).textContent = `${order.indexOf(shownImage) + 1} of ${order.length}: ${name}`;
  const views = chosen().map((run) => figureOf(run, shownImage, true));
  one(".views", zoom).replaceChildren(...views);
  const link = new URLSearchParams({
    image: name, run: state.left, beside: state.right, scores: state.threshold, kind: state.kind,
  });
  one("a", zoom).href = `#${link}`;
  history.replaceState(null, "", `#${link}`);
}
const turn = (by) => enlarge(order.indexOf(shownImage) + by);
zoom.onkeydown = (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && event.target.type !== "checkbox") turn(by);
};
zoom.onclick = (event) => event.target === zoom && zoom.close();
zoom.onclose = () => history.replaceState(null, "", "#images");
one(".close", zoom).onclick = () => zoom.close();
for (const button of all("[data-step]", zoom)) button.onclick = () => turn(Number(button.dataset.step));
one("a", zoom).onclick = (event) => {
  event.preventDefault();
  navigator.clipboard?.writeText(event.target.href);
  event.target.textContent = "Link copied";
  setTimeout(() => { event.target.textContent = "Link"; }, 1500);
};

/** The views side by side as one picture, an SVG or a PNG. */
function saveViews(format) {
  const views = all(".views svg", zoom).map((view) => view.cloneNode(true));
  const [width, height] = data.images[shownImage].size;
  const scale = Math.max(1, 1000 / Math.max(width, height));
  const sheet = shape("svg", {
    xmlns: SVG, viewBox: `0 0 ${width * views.length} ${height}`,
    width: scale * width * views.length, height: scale * height,
  });
  views.forEach((view, i) => {
    for (const [key, value] of Object.entries({ x: i * width, width, height })) view.setAttribute(key, value);
    sheet.append(view);
  });
  const text = new XMLSerializer().serializeToString(sheet);
  const address = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  const name = `${data.images[shownImage].name.replace(/\W+/g, "_")}.${format}`;
  if (format === "svg") return download(address, name);
  const photo = new Image();
  photo.onload = () => {
    const canvas = element("canvas", { width: photo.width, height: photo.height });
    canvas.getContext("2d").drawImage(photo, 0, 0);
    download(canvas.toDataURL("image/png"), name);
  };
  photo.src = address;
}
for (const button of all("[data-format]", zoom)) button.onclick = () => saveViews(button.dataset.format);

// --- confusion
const describe = ({ truth, label }) => `${nameOf(truth)} ${label === BACKGROUND ? "" : "taken for "}${detectedAs(label)}`;
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

// --- choices
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
