"use strict";
// What all of the page shares: data, state, theme, tables.
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const one = (selector, inside = document) => inside.querySelector(selector);

/** What the reader chose: two runs (right: -1 for none), least score, gallery, hidden boxes. */
const state = {
  left: 0, right: -1, threshold: 0.3, kind: "mistakes", cell: null, limit: 0,
  hidden: new Set(), hiddenGroups: new Set(),
};
/** Numbers of the runs that are looked at. */
const chosen = () => (state.right < 0 ? [state.left] : [state.left, state.right]);

/** An element with properties, attributes ("aria-..", "data-..") and children. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  made.append(...children);
  return made;
}

function download(address, name) {
  element("a", { href: address, download: name }).click();
}

// --- theme: the system's, until the button is pressed
const dark = matchMedia("(prefers-color-scheme: dark)");
function setTheme(name) {
  root.dataset.theme = name;
  drawAll();
}
dark.addEventListener("change", () => setTheme(dark.matches ? "dark" : "light"));
one("#theme").onclick = () => setTheme(root.dataset.theme === "dark" ? "light" : "dark");

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
function makeSortable(table) {
  for (const head of all("thead th", table)) {
    head.tabIndex = 0;
    head.onclick = () => sortBy(head);
    head.onkeydown = (event) => event.key === "Enter" && sortBy(head);
  }
}
all(".sortable").forEach(makeSortable);
