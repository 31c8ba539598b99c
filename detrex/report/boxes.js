"use strict";
// What a run makes of an image at the chosen threshold, and its picture with boxes.
const TRUTH = "#2ecc40", RIGHT = "#4aa8ff"; // colours of boxes on photographs
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
