"""The fixed parts of the HTML page: its style and its own two scripts, which hold no data."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --soft: #f3f4f6; --line: #d0d4da; --mark: #0b5cad; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --back: #16181c; --soft: #22262c; --line: #3b414a; --mark: #7fb8ff; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); }
main { max-width: 80rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
p, li, dd, figcaption { max-width: 62rem; overflow-wrap: anywhere; }
.answer { font-size: 1.1rem; font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; background: linear-gradient(to right, var(--back), transparent) 0 0,
  linear-gradient(to left, var(--back), transparent) 100% 0, linear-gradient(to right, var(--line), transparent) 0 0,
  linear-gradient(to left, var(--line), transparent) 100% 0; background-repeat: no-repeat;
  background-size: 3rem 100%, 3rem 100%, .6rem 100%, .6rem 100%; background-attachment: local, local, scroll, scroll; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { background: var(--soft); vertical-align: bottom; }
thead th.number { text-align: right; }
td[data-value] { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td small { display: block; font-size: .85em; opacity: .85; }
tr.baseline { background: var(--soft); }
abbr { text-decoration: underline dotted; text-underline-offset: .2em; cursor: help; }
th button { all: unset; cursor: pointer; font: inherit; font-weight: 600; }
th button:focus-visible, .scroll:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
th button::after { content: " \\2195"; color: var(--mark); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
.card { background: #ffffff; color: #1b1b1b; padding: .5rem; margin: 1rem 0; border: 1px solid var(--line);
  border-radius: .3rem; overflow-x: auto; }
figure.card { max-width: 70rem; }
figure.card svg { width: 100%; min-width: 34rem; height: auto; display: block; }
figcaption { font-size: .85rem; color: #444; padding-top: .4rem; }
#explorer { width: 100%; min-width: 20rem; }
#explorer .vega-bind { margin: .3rem 1rem .3rem 0; display: inline-block; }
#explorer select { max-width: 16rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; background: var(--soft); }
pre { padding: .6rem; overflow-x: auto; }
dt { font-weight: 600; }
dd { margin: 0 0 .4rem 1.2rem; }
@media print {
  :root { --text: #000; --back: #fff; --soft: #f3f3f3; --line: #999; }
  main { max-width: none; padding: 0; }
  #explorer-section, th button::after { display: none; content: none; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: .1rem .25rem; }
  td[data-value] { white-space: normal; }
  figure, tr { break-inside: avoid; }
}
"""

# A column sorts by data-value where its cells carry numbers, else by text; rows without a value stay last.
SORTING = """
document.querySelectorAll("table.sortable").forEach(function (table) {
  var body = table.tBodies[0];
  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
    var button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) { button.appendChild(head.firstChild); }
    head.appendChild(button);
    button.addEventListener("click", function () {
      var up = head.getAttribute("aria-sort") !== "ascending";
      Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) { other.removeAttribute("aria-sort"); });
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      var rows = Array.prototype.slice.call(body.rows).map(function (row) {
        var cell = row.cells[column], value = cell.getAttribute("data-value");
        return { row: row, number: value ? Number(value) : NaN, text: cell.textContent };
      });
      rows.sort(function (a, b) {
        var missing = isNaN(a.number) - isNaN(b.number);
        if (missing) { return missing; }
        var order = isNaN(a.number) ? a.text.localeCompare(b.text) : a.number - b.number;
        return up ? order : -order;
      });
      rows.forEach(function (item) { body.appendChild(item.row); });
    });
  });
});
"""

# `ast` makes Vega interpret its expressions: compiling them would need unsafe-eval, which the policy forbids.
START_EXPLORER = """
(function () {
  var section = document.getElementById("explorer-section");
  var chart = JSON.parse(document.getElementById("explorer-chart").textContent);
  section.hidden = false;
  vegaEmbed("#explorer", chart, { actions: false, renderer: "svg", ast: true }).catch(function (error) {
    section.hidden = true;
    console.error(error);
  });
})();
"""
