"use strict";

// Tables: a button in every header sorts by its column: upwards, downwards, then as in the report.
const absent = (text) => text === "" || text === "–";

// The first number of a cell such as "+0.012 ± 0.004", "< .001", "[-0.1, +0.2]", "1,200" or "35.0 %"; NaN where it begins otherwise.
function number(text) {
  const found = /^([<[]?)\s*([+\-−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)(?![\w.])/i.exec(text);
  if (!found) return NaN;
  const value = Number(found[2].replaceAll(",", "").replace("−", "-"));
  return found[1] === "<" ? value - 1e-9 : value;
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (!table.tHead || !body || body.rows.length < 2) continue;
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent.trim()]));
    const present = [...texts.values()].filter((text) => !absent(text));
    const numeric = present.every((text) => !Number.isNaN(number(text)));
    const compare = (a, b) => (numeric ? number(a) - number(b) : a.localeCompare(b, "en", { numeric: true }));
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[head.getAttribute("aria-sort")];
      const order = next === undefined ? "ascending" : next;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (order) head.setAttribute("aria-sort", order);
      const sign = order === "descending" ? -1 : 1;
      const sorted = [...rows].sort((a, b) => {
        const [first, second] = [texts.get(a), texts.get(b)];
        return absent(first) - absent(second) || (absent(first) ? 0 : sign * compare(first, second));
      });
      body.append(...(order ? sorted : rows));
    });
  });
}

// Pictures: the values of a step stand in its <title>. A box shows them under the pointer, and by the arrow keys.
const box = document.createElement("div");
box.className = "values";
box.setAttribute("role", "status");
box.hidden = true;
document.body.append(box);
let shown = null;

function show(stop, left, top) {
  shown?.classList.remove("shown");
  shown = stop;
  box.hidden = !stop;
  if (!stop) return;
  stop.classList.add("shown");
  box.textContent = stop.dataset.values;
  const fits = (place, size, most) => Math.max(4, place + size + 16 < most ? place + 12 : Math.min(place - size - 12, most - size - 4));
  box.style.left = `${fits(left, box.offsetWidth, document.documentElement.clientWidth)}px`;
  box.style.top = `${fits(top, box.offsetHeight, innerHeight)}px`;
}

for (const title of document.querySelectorAll(".stop > title")) {
  title.parentNode.dataset.values = title.textContent;
  title.remove();
}
for (const event of ["pointermove", "pointerdown"])
  document.addEventListener(event, ({ target, clientX, clientY }) => {
    const stop = target.closest?.(".stop");
    if (stop || !document.activeElement.closest(".panels svg")) show(stop, clientX, clientY);
  });
document.addEventListener("scroll", () => show(null));
for (const panel of document.querySelectorAll(".panels svg")) {
  const stops = [...panel.querySelectorAll(".stop")];
  panel.setAttribute("tabindex", "0");
  panel.addEventListener("blur", () => show(null));
  panel.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") show(null);
    if (!step || !stops.length) return;
    event.preventDefault();
    const place = stops.indexOf(shown);
    const next = stops[place < 0 ? (step > 0 ? 0 : stops.length - 1) : Math.min(stops.length - 1, Math.max(0, place + step))];
    const { right, top } = next.getBoundingClientRect();
    show(next, right, top);
  });
}
