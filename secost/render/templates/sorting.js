// A column sorts by data-value where its cells carry numbers, else by text; rows without a value stay last.
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
