// Forget metric against Retain metric: points with their bars, gold's lines, the Pareto line, the grey area.

function drawTradeoff(shown) {
  const picture = shown.tradeoff[state.definition];
  const points = picture.points;
  const gold = points.find((point) => point.role === "gold");
  const line = picture.line;
  const traces = [];
  if (line.length > 1) {
    traces.push({
      x: line.map((point) => point[0]), y: line.map((point) => point[1]), mode: "lines", name: "Pareto line", hoverinfo: "skip",
      line: { color: colour("accent"), width: 2, shape: "hv" }, opacity: 0.55,
    });
  }
  // with several modalities a method is one entry of the legend, and a letter beside each point says which modality it is
  const letters = new Set(points.filter((point) => point.role === "model").map((point) => point.modality)).size > 1;
  const named = new Set();
  for (const point of points) {
    const method = methodOf(point.label);
    traces.push({ ...pointTrace(point, letters), ...(letters ? { legendgroup: plain(method), showlegend: !named.has(method) } : {}) });
    named.add(method);
  }
  find("tradeoff-letters").hidden = !letters;
  const shapes = [{
    type: "rect", x0: -1, x1: picture.low_retain, y0: 0, y1: 1, yref: "paper", fillcolor: colour("quiet"), opacity: 0.1, line: { width: 0 }, layer: "below",
  }];
  if (gold) {
    const dotted = { line: { color: colour("gold"), width: 1.5, dash: "dot" }, layer: "below" };
    shapes.push({ type: "line", x0: gold.x, x1: gold.x, y0: 0, y1: 1, yref: "paper", ...dotted });
    shapes.push({ type: "line", y0: gold.y, y1: gold.y, x0: 0, x1: 1, xref: "paper", ...dotted });
  }
  const ends = (low, high, values, bars) => [
    Math.min(low, ...values, ...bars.flat()), Math.max(high, ...values, ...bars.flat()),
  ];
  const bars = (key) => points.map((point) => point[key]).filter(Boolean);
  const [left, right] = ends(picture.low_retain - 0.08, gold ? gold.x : 0.5, points.map((point) => point.x), bars("x_bar"));
  const [, top] = ends(0, 0.3, points.map((point) => point.y), bars("y_bar"));
  const rows = Math.ceil(traces.filter((trace) => trace.showlegend !== false).length / 2);
  return chart(chartOf("tradeoff"), traces, {
    height: (narrow() ? 400 : 470) + (narrow() ? rows * 20 : 0),
    xaxis: axis("Retain metric → more kept", { range: [Math.max(-0.03, left - 0.03), right + (narrow() ? 0.13 : 0.05)], zeroline: false }),
    yaxis: axis("Forget metric → more still known", { range: [-0.03, top + 0.04], zeroline: false }),
    shapes, showlegend: true,
    legend: narrow()
      ? { orientation: "h", x: 0, y: -0.2, yanchor: "top", font: { size: 12 } }
      : { x: 1.01, y: 1, font: { size: 13 }, itemsizing: "constant", tracegroupgap: 2 },
    annotations: [
      { x: picture.low_retain, y: 1, yref: "paper", xanchor: "right", yanchor: "top", text: `Retain < ${picture.low_retain}`.replace("<", "&lt;"), showarrow: false, font: { color: colour("quiet"), size: 12 } },
      ...(gold ? [{ x: gold.x, y: gold.y, text: "gold", showarrow: false, xanchor: "left", yanchor: "bottom", xshift: 8, yshift: 4, font: { color: colour("gold"), size: 13 } }] : []),
      ...points.filter((point) => point.role === "base").map((point) => ({ x: point.x, y: point.y, text: "base", showarrow: false, xanchor: "left", yanchor: "bottom", xshift: 7, yshift: 3, font: { color: colour("text"), size: 13 } })),
    ],
  });
}

function pointTrace(point, letters) {
  const own = runColour(point);
  const seeds = point.seeds > 1 ? ` (${point.seeds} seeds)` : "";
  const name = point.label + (point.modality && point.role === "model" ? ` · ${point.modality}` : "") + seeds;
  const bar = (value, ends) => ends
    ? { type: "data", symmetric: false, array: [Math.max(0, ends[1] - value)], arrayminus: [Math.max(0, value - ends[0])], color: own, thickness: 1.2, width: 3 }
    : { visible: false };
  const range = (ends) => (ends ? ` [${number(ends[0])}, ${number(ends[1])}]` : "");
  const symbol = symbolOf(point) + (point.low_retain && point.role === "model" ? "-open" : "");
  return {
    x: [point.x], y: [point.y], mode: letters ? "markers+text" : "markers", name: plain(letters ? methodOf(point.label) : name),
    text: [point.role === "model" ? plain((point.modality || "").slice(0, 1)) : ""], textposition: "top right", textfont: { size: 11, color: own },
    error_x: bar(point.x, point.x_bar), error_y: bar(point.y, point.y_bar),
    marker: { symbol, size: point.role === "gold" ? 18 : 12, color: own, line: { color: point.low_retain ? own : colour("card"), width: point.low_retain ? 2 : 1 } },
    hovertemplate: `<b>${plain(name)}</b><br>Retain ${number(point.x)}${range(point.x_bar)}<br>Forget ${number(point.y)}${range(point.y_bar)}` +
      (known(point.quality) ? `<br>Forget Quality ${number(point.quality)}` : "") + "<extra></extra>",
  };
}

views.push({
  id: "tradeoff", name: "Trade-off", draw: drawTradeoff, byDefinition: true,
  missing: (shown) => shown.tradeoff[state.definition] ? "" :
    "The released scripts compute no Retain and Forget metric here: switch to the paper's definition.",
});
