"use strict";
// Without this script the first rows stand in the page as they are; with it, all rows can be sorted and filtered.
// Names of files are only ever set as text.
const data = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("rows");
const headings = [...table.tHead.rows[0].cells];
const filters = document.getElementById("filters");
const turn = document.getElementById("turn");
const status = document.getElementById("shown");
const collator = new Intl.Collator("en", { numeric: true });
const [LINK, STATE, CELLS] = [0, 1, 2];
const ANSWER = data.columns.findIndex((column) => column.kind === "answer");
const CONFIDENCE = data.columns.findIndex((column) => column.kind === "share");
const REFER = data.columns.findIndex((column) => column.title === "Refer");
const texts = new Map(); // of the rows searched so far

let order = null; // { column, sign }, or null for the order of the inputs
let found = data.rows;
let page = 0;

const SHOW = {
  share: (value) => [percent(value), meter(value)],
  number: (value) => [value.toFixed(3)],
  size: ([width, height]) => [`${width} × ${height}`],
  input: (value, row) => [anchor(row[LINK], value)],
};

function percent(value) {
  return `${(100 * value).toFixed(1)}\u202f%`;
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function meter(value) {
  const bar = element("i", "");
  bar.style.width = `${(100 * value).toFixed(1)}%`;
  const made = element("span", "meter", bar);
  made.setAttribute("aria-hidden", "true");
  return made;
}

function anchor(address, text) {
  const made = element("a", "", text);
  made.href = address;
  return made;
}

function rowOf(row) {
  const cells = data.columns.map((column, index) => {
    const value = row[CELLS + index];
    const show = SHOW[column.kind] ?? ((text) => [text]);
    return element("td", column.kind, ...(value === null ? [] : show(value, row)));
  });
  return element("tr", row[STATE], ...cells);
}

function draw() {
  const first = page * data.perPage;
  const some = found.slice(first, first + data.perPage);
  table.tBodies[0].replaceChildren(...some.map(rowOf));
  const numPages = Math.max(1, Math.ceil(found.length / data.perPage));
  turn.hidden = numPages === 1;
  turn.querySelector("span").textContent = `${page + 1} of ${numPages}`;
  const [back, on] = turn.querySelectorAll("button");
  back.disabled = page === 0;
  on.disabled = page === numPages - 1;
  const range = some.length ? `${(first + 1).toLocaleString("en")}–${(first + some.length).toLocaleString("en")} of ` : "";
  status.textContent = `${range}${found.length.toLocaleString("en")} input${found.length === 1 ? "" : "s"}`;
  headings.forEach((heading, index) => {
    if (order?.column === index) heading.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
    else heading.removeAttribute("aria-sort");
  });
}

function textOf(row) {
  if (!texts.has(row)) texts.set(row, row.slice(CELLS).join("\n").toLowerCase());
  return texts.get(row);
}

function matches(row, wanted) {
  const [isFailed, answer] = [row[STATE] === "failed", row[CELLS + ANSWER]];
  if (wanted.class !== null && (isFailed || answer !== wanted.class)) return false;
  if (wanted.state === "referred") {
    if (row[CELLS + REFER] !== "yes") return false;
  } else if (wanted.state === "ok" ? isFailed : wanted.state && row[STATE] !== wanted.state) return false;
  return !wanted.text || textOf(row).includes(wanted.text);
}

function keyOf(row, { column }) {
  const value = row[CELLS + column];
  return data.columns[column].kind === "size" && value !== null ? value[0] * value[1] : value;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null); // without a value: last in either order
  return sign * (typeof a === "number" ? a - b : collator.compare(a, b));
}

function update() {
  const { class: name, state, text } = filters.elements;
  const wanted = {
    class: name.value === "" ? null : data.classes[Number(name.value)],
    state: state.value,
    text: text.value.trim().toLowerCase(),
  };
  found = data.rows.filter((row) => matches(row, wanted));
  if (order) {
    const keyed = found.map((row) => [keyOf(row, order), row]);
    keyed.sort(([a], [b]) => compare(a, b, order.sign));
    found = keyed.map(([, row]) => row);
  }
  page = 0;
  draw();
}

function sortBy(column, sign) {
  order = { column, sign };
  update();
}

headings.forEach((heading, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  const first = ["share", "number", "size"].includes(data.columns[column].kind) ? -1 : 1;
  button.addEventListener("click", () => sortBy(column, order?.column === column ? -order.sign : first));
});
filters.addEventListener("input", update);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => {
  order = null;
  setTimeout(update); // the fields are emptied after this event
});
document.getElementById("doubtful").addEventListener("click", () => sortBy(CONFIDENCE, 1));
turn.addEventListener("click", (event) => {
  const by = Number(event.target.dataset.by ?? 0);
  if (!by) return;
  page += by;
  draw();
  table.parentElement.scrollIntoView();
});
filters.hidden = false;
update();
