// ROC curves of the attack by loss, every run beside gold and base, and a table of all attacks.

function drawPrivacy(shown) {
  const { attacks, tasks } = shown.privacy;
  choices(find("privacy-task"), tasks.map((task, place) => [place, task.label]));
  find("privacy-task").onchange = () => drawPrivacy(shown);
  const task = tasks[Number(find("privacy-task").value)];
  const dashes = { gold: "dot", base: "dash", model: "solid" };
  const chance = { x: [0, 1], y: [0, 1], mode: "lines", name: "chance", hoverinfo: "skip", showlegend: false, line: { color: colour("line"), width: 1 } };
  const traces = task.runs.map((run) => ({
    x: run.x, y: run.y, mode: "lines", name: plain(run.label), line: { color: runColour(run), width: 2, dash: dashes[run.role] },
    hovertemplate: "%{y:.0%} of the forgotten, %{x:.0%} of the holdout<extra>" + plain(run.label) + "</extra>",
  }));
  chart(chartOf("privacy"), [chance, ...traces], {
    height: 400 + (narrow() ? 22 * Math.ceil(traces.length / 2) : 0), showlegend: true,
    legend: narrow() ? { orientation: "h", x: 0, y: -0.22, yanchor: "top" } : { x: 1.01, y: 1 },
    xaxis: axis("share of the holdout taken for training data", { range: [-0.02, 1.02], zeroline: false }),
    yaxis: axis("share of the forgotten found", { range: [-0.02, 1.02], zeroline: false }),
  });
  const used = attacks.filter((attack) => task.runs.some((run) => run.attacks[attack]));
  const head = ["Run", ...used.map((attack) => `AUC ${attack}`), "person AUC", "score"].map((text) => element("th", { scope: "col", text }));
  const rows = task.runs.map((run) => element("tr", { class: run.role === "model" ? "" : "anchor", "data-label": run.label },
    element("td", {}, dot(run), run.label), ...used.map((attack) => element("td", { text: attackText(run.attacks[attack]) })),
    element("td", { text: number(run.attacks.LOSS?.person) }), element("td", { text: number(run.attacks.LOSS?.score) })));
  find("privacy-table").replaceChildren(element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows));
  const people = task.people ? [`${task.people.forget} people to forget, ${task.people.holdout} in the holdout.`] : [];
  const blind = known(task.blind) ? [`Words alone, without a model: AUC ${number(task.blind)}.`] : [];
  const differs = task.differs.map((why) => `The holdout is not like the forget set: ${why}.`);
  find("privacy-notes").replaceChildren(...[...people, ...blind, ...differs].map((text) => element("p", { text })));
}

function attackText(numbers) {
  if (!numbers || !known(numbers.auc)) return "–";
  return number(numbers.auc) + (numbers.interval ? ` [${numbers.interval.map((end) => number(end)).join(", ")}]` : "");
}

views.push({
  id: "privacy", name: "Privacy", draw: drawPrivacy, optional: true,
  missing: (shown) => shown.privacy ? "" : "No eval log has people whom nobody was trained on (holdout).",
});
