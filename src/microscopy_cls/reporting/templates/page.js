"use strict";
// Tables stay plain without this script; with it, a click on a heading sorts by that column.
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

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
