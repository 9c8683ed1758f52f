// The page around the charts: which curves are shown, and the table's order.

const data = JSON.parse(document.getElementById("data").textContent);
const boxes = [...document.querySelectorAll("input[data-curve]")];
const filters = [...document.querySelectorAll("input[data-condition]")];

function passes(curve) {
  return Object.entries(data.curves[curve].conditions).every(([name, value]) =>
    filters.some((box) => box.dataset.condition === name && box.value === value && box.checked));
}

function visible(curve) {
  return boxes[curve].checked && passes(curve);
}

const charts = [...document.querySelectorAll("figure.chart")].map((host) => new Chart(host, data[host.dataset.of] ?? data, visible));

function update() {
  boxes.forEach((box, curve) => (box.closest("label").hidden = !passes(curve)));
  for (const part of document.querySelectorAll("tr[data-curve], section[data-curve]"))
    part.hidden = !visible(Number(part.dataset.curve));
  for (const chart of charts) chart.draw();
}

function choose(all) {
  for (const box of boxes) if (passes(Number(box.dataset.curve))) box.checked = all;
  update();
}

for (const box of [...boxes, ...filters]) box.addEventListener("change", update);
document.getElementById("all").addEventListener("click", () => choose(true));
document.getElementById("none").addEventListener("click", () => choose(false));

for (const place of document.querySelectorAll("svg.swatch")) swatch(place, data.curves[place.dataset.curve], 8, 5, true);

// Numbers before texts, and what is missing last in both directions.
function compare(one, other, direction) {
  if (one === "" || other === "") return (one === "") - (other === "");
  const [a, b] = [Number(one), Number(other)];
  const numbers = !Number.isNaN(a) && !Number.isNaN(b);
  return direction * (numbers ? a - b : one.localeCompare(other, "en"));
}

for (const heading of document.querySelectorAll("table.rows th")) {
  heading.querySelector("button").addEventListener("click", () => {
    const table = heading.closest("table");
    const direction = heading.ariaSort === "ascending" ? -1 : 1;
    for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const key = (row) => row.cells[heading.cellIndex].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b), direction));
    table.tBodies[0].append(...rows);
  });
}

update();
