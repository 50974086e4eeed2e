// Loss and its parts by optimiser step, one line per run.

function drawCurves(shown) {
  const { names, runs, max_points: limit } = shown.curves;
  choices(find("curves-name"), names.map((name) => [name, name.replace("parts/", "part: ").replaceAll("_", " ")]));
  find("curves-name").onchange = () => drawCurves(shown);
  const name = find("curves-name").value;
  const drawn = runs.filter((run) => name in run.quantities);
  const dashes = ["solid", "dash", "dot", "dashdot"];
  const before = {};
  const traces = drawn.map((run) => {
    const again = before[run.method] = (before[run.method] ?? -1) + 1;  // seeds of a method share its colour
    const { step, value } = run.quantities[name];
    return { x: step, y: value, mode: step.length < 30 ? "lines+markers" : "lines", name: plain(run.label), marker: { size: 5 },
      line: { color: runColour(run), width: 2, dash: dashes[again % 4] }, hovertemplate: "step %{x}: %{y:.4g}<extra>" + plain(run.label) + "</extra>" };
  });
  chart(chartOf("curves"), traces, {
    height: 360 + (narrow() ? 22 * Math.ceil(traces.length / 2) : 0), showlegend: true, hovermode: traces.length > 10 ? "closest" : "x unified",
    legend: narrow() ? { orientation: "h", x: 0, y: -0.22, yanchor: "top" } : { x: 1.01, y: 1 },
    xaxis: axis("optimiser step", { zeroline: false }), yaxis: axis(plain(find("curves-name").selectedOptions[0].text), { zeroline: false }),
  });
  const long = drawn.some((run) => run.quantities[name].step.length >= limit);
  const notes = [...shown.training_notes, ...(long ? [`Long logs are thinned to about ${limit} points.`] : [])];
  find("curves-notes").replaceChildren(...notes.map((text) => element("p", { text })));
}

views.push({
  id: "curves", name: "Training", draw: drawCurves,
  missing: (shown) => shown.curves ? "" : ["No training log (train_log.jsonl) lies beside the models.", ...shown.training_notes].join(" "),
});
