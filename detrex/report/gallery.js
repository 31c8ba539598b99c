"use strict";
// The gallery, its enlarged view, and the images as files.
const PAGE = 24; // images until "Show more"

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
