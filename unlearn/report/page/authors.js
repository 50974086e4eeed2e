// A heat map: one line per person, one column per run.

function drawAuthors(shown) {
  const { tasks, runs } = shown.authors;
  choices(find("authors-task"), tasks.map((task, place) => [place, task.label]));
  const task = tasks[Number(find("authors-task").value)];
  choices(find("authors-metric"), Object.keys(task.metrics).map((name) => [name, shown.authors.meanings[name] || name]));
  for (const id of ["authors-task", "authors-metric"]) find(id).onchange = () => drawAuthors(shown);
  const values = task.metrics[find("authors-metric").value];
  const names = task.authors.map((name, place) => plain(name) + (narrow() ? "" : `  (${task.items[place]})`));
  const cells = runs.length <= 14 && !narrow();
  chart(chartOf("authors"), [{
    type: "heatmap", x: runs.map(plain), y: names, z: values, zmin: 0, zmax: 1, xgap: 2, ygap: 2,
    colorscale: [[0, colour("grid")], [1, colour("heat")]], colorbar: { thickness: 10, len: 1, outlinewidth: 0, tickvals: [0, 0.5, 1] },
    texttemplate: cells ? "%{z:.2f}" : undefined, textfont: { size: 11 },
    hovertemplate: "%{y}<br>%{x}: %{z:.2f}<extra></extra>",
  }], {
    height: 84 + 26 * names.length, margin: { l: 10, r: 10, t: 10, b: 6 },
    xaxis: axis("", { type: "category", side: "top", tickangle: runs.length > 6 || narrow() ? -60 : 0, gridcolor: "rgba(0,0,0,0)" }),
    yaxis: axis("", { type: "category", autorange: "reversed", gridcolor: "rgba(0,0,0,0)", tickfont: { size: 12 } }),
  });
  const cut = task.authors.length < task.total ? ` ${task.authors.length} of ${task.total} people are shown: those on whom the runs differ most.` : "";
  find("authors-note").textContent = `In brackets: items per person.${cut}`;
}

views.push({
  id: "authors", name: "People", draw: drawAuthors,
  missing: (shown) => shown.authors ? "" : "The eval logs that are left do not say whom their rows are about (eval_meta.json, author).",
});
