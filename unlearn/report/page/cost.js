// Seconds, memory and items of every run: bars for the seconds, a table for all of it.

const COSTS = [
  ["train_seconds", "Training", seconds], ["train_steps", "Steps", (value) => known(value) ? String(value) : "–"], ["train_memory", "Peak memory (GPU)", memory],
  ["eval_seconds", "Evaluation", seconds], ["eval_memory", "Peak memory", memory], ["items", "Items", (value) => value.toLocaleString("en")],
  ["items_per_second", "Items / s", (value) => number(value)], ["tokens_per_item", "Tokens generated / item", (value) => number(value, 1)],
];

function drawCost(shown) {
  const { lines } = shown.cost;
  const used = COSTS.filter(([key]) => lines.some((line) => known(line[key])));
  const head = element("tr", {}, element("th", { scope: "col", text: "Run" }), ...used.map(([, name]) => element("th", { scope: "col", text: name })));
  const rows = lines.map((line) => element("tr", { class: line.role === "model" ? "" : "anchor" },
    element("td", {}, dot(line), line.label), ...used.map(([key, , format]) => element("td", { text: format(line[key] ?? null) }))));
  find("cost-table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  const timed = lines.filter((line) => known(line.train_seconds) || known(line.eval_seconds)).reverse();
  const place = chartOf("cost");
  place.hidden = !timed.length;
  if (!timed.length) return;
  const bars = [["train_seconds", "training", "c0"], ["eval_seconds", "evaluation", "c5"]].map(([key, name, own]) => ({
    type: "bar", orientation: "h", name, y: timed.map((line) => plain(line.label)), x: timed.map((line) => line[key] ?? 0), marker: { color: colour(own) },
    customdata: timed.map((line) => seconds(line[key])), hovertemplate: `%{y}<br>${name}: %{customdata}<extra></extra>`,
  }));
  chart(place, bars, {
    barmode: "stack", bargap: 0.35, height: 100 + 26 * timed.length, margin: { l: 10, r: 12, t: 30, b: 44 }, showlegend: true,
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal" },
    xaxis: axis("seconds", { zeroline: false }), yaxis: axis("", { type: "category", gridcolor: "rgba(0,0,0,0)" }),
  });
}

views.push({ id: "cost", name: "Cost", draw: drawCost, missing: (shown) => shown.cost ? "" : "No eval log is left." });
