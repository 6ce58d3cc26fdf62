"use strict";
const root = document.documentElement;
const colour = name => getComputedStyle(root).getPropertyValue(name).trim();

// Figures take the page's colours, whichever they are now.
function paint() {
  for (const figure of document.querySelectorAll(".js-plotly-plot")) {
    const changes = { "font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--panel"), "hoverlabel.font.color": colour("--ink") };
    for (const key of Object.keys(figure.layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        changes[key + ".gridcolor"] = colour("--line");
        changes[key + ".linecolor"] = colour("--line");
        changes[key + ".zerolinecolor"] = colour("--line");
      }
    }
    Plotly.relayout(figure, changes);
  }
}
function dark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; paint(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);

// Tables are sorted by whatever number a cell begins with, else by its text.
const value = cell => { const number = parseFloat(cell.textContent.replace(/[,<≤]/g, "")); return Number.isNaN(number) ? cell.textContent : number; };
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
    const heading = button.parentElement, down = heading.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th").forEach(one => one.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const order = (a, b) => {
      const [one, two] = [value(a.cells[column]), value(b.cells[column])];
      const by = typeof one === typeof two ? (one < two ? -1 : one > two ? 1 : 0) : typeof one === "number" ? -1 : 1;
      return down ? -by : by;
    };
    body.append(...[...body.rows].sort(order));
  }));
}
for (const filter of document.querySelectorAll("input[data-filters]")) {
  const rows = document.getElementById(filter.dataset.filters).tBodies[0].rows;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}

// The profile of whichever plan is chosen, in the list or on the front.
const choice = document.getElementById("choice"), profiles = document.getElementById("profiles");
if (choice && profiles) {
  const known = JSON.parse(profiles.textContent);
  const show = () => {
    const one = known[choice.value];
    Plotly.restyle("profile", { z: [one.z], text: [one.text] });
    document.getElementById("kept").textContent = one.kept;
  };
  choice.addEventListener("change", show);
  for (const figure of document.querySelectorAll(".front .js-plotly-plot")) {
    figure.on("plotly_click", event => {
      const name = event.points[0].customdata;
      if (name in known) { choice.value = name; show(); }
    });
  }
}
paint();
