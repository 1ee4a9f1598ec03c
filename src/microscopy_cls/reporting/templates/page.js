"use strict";
// Without this script all is plain and shown; with it tables sort, pictures filter, the paragraph copies.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if (heading.tagName !== "TH") return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, headings, column));
  });
}

function sort(table, headings, column) {
  const isNumber = headings[column].classList.contains("number");
  const first = isNumber ? "descending" : "ascending";
  const before = headings[column].getAttribute("aria-sort");
  const order = before === first ? (isNumber ? "ascending" : "descending") : first;
  headings.forEach((heading) => heading.removeAttribute("aria-sort"));
  headings[column].setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [keyOf(row.cells[column], isNumber), row]);
  rows.sort(([a], [b]) => compare(a, b, sign));
  body.append(...rows.map(([, row]) => row));
}

function keyOf(cell, isNumber) {
  if (!isNumber) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null); // without a value: last in either order
  return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
}

for (const form of document.querySelectorAll("form.filters")) {
  const pictures = [...form.parentElement.querySelectorAll("li")];
  form.hidden = false;
  form.addEventListener("input", () => filter(form, pictures));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(form, pictures);
}

function filter(form, pictures) {
  const wanted = ["truth", "predicted", "right"].map((key) => [key, form.elements[key].value]);
  const words = form.elements.words.value.trim().toLowerCase();
  for (const picture of pictures) {
    const fits = wanted.every(([key, value]) => value === "" || picture.dataset[key] === value);
    picture.hidden = !(fits && picture.textContent.toLowerCase().includes(words));
  }
  const num = pictures.filter((picture) => !picture.hidden).length;
  form.querySelector("output").textContent = `${num} of ${pictures.length} shown`;
}

for (const line of document.querySelectorAll("[data-copies]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy the paragraph";
  line.prepend(button, " ");
  button.addEventListener("click", () => copy(document.getElementById(line.dataset.copies), line.querySelector("[role=status]")));
}

async function copy(source, status) {
  getSelection().selectAllChildren(source); // to be copied by hand where the browser keeps the page from it
  try {
    await navigator.clipboard.writeText(source.textContent);
    status.textContent = "copied";
  } catch {
    status.textContent = "selected: copy it with Ctrl+C";
  }
}

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not(#browser details)")) details.open = true;
});
