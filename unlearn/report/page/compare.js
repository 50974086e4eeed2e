// Two runs that the reader chooses: paired differences over people, and what they say.

const VERDICTS = { equal: "equal", different: "different", unknown: "cannot be told" };

function drawCompare(shown) {
  const { runs, names, pairs, margin, left_out: leftOut } = shown.compare;
  const options = runs.map((run, place) => [place, run.label]);
  const model = runs.findIndex((run) => run.role === "model");
  choices(find("compare-a"), options, model < 0 ? 0 : model);
  choices(find("compare-b"), options, runs.findIndex((run) => run.role === "gold") < 0 ? 1 : runs.findIndex((run) => run.role === "gold"));
  for (const id of ["compare-a", "compare-b"]) find(id).onchange = () => drawCompare(shown);
  const a = Number(find("compare-a").value), b = Number(find("compare-b").value);
  const found = pairs[a < b ? `${a}-${b}` : `${b}-${a}`];
  const sign = a < b ? 1 : -1;
  const leaks = names.some((_, place) => known(runs[a].leakage[place]));
  const head = ["Number", "A", "B", "A − B", "95 %", `within ${margin}`, "people needed", ...(leaks ? ["leakage A", "leakage B"] : [])];
  const rows = names.map((name, place) => {
    const [difference, low, high, verdict, needed] = found ? found[name] : [0, null, null, "equal", null];
    const ends = known(low) ? [sign * low, sign * high].sort((one, other) => one - other) : null;
    const cells = [
      number(runs[a].means[place], 3), number(runs[b].means[place], 3), `${sign * difference < 0 ? "−" : "+"}${number(Math.abs(difference), 3)}`,
      ends ? `[${ends.map((end) => number(end, 3)).join(", ")}]` : "–", VERDICTS[verdict], known(needed) ? String(needed) : "–",
      ...(leaks ? [number(runs[a].leakage[place]), number(runs[b].leakage[place])] : []),
    ];
    return element("tr", { "data-name": name, "data-verdict": verdict }, element("td", { text: name }), ...cells.map((text) => element("td", { text })));
  });
  const top = element("tr", {}, ...head.map((text) => element("th", { scope: "col", text })));
  find("compare-table").replaceChildren(element("thead", {}, top), element("tbody", {}, ...rows));
  find("compare-note").textContent = (found ? "" : "One and the same run. ") + (leftOut ? `${leftOut} more runs are not here: compare them by aggregate_eval_stat.py compare=[A,B]. ` : "");
}

views.push({
  id: "compare", name: "Compare", draw: drawCompare, optional: true,
  missing: (shown) => shown.compare ? "" : "Fewer than two eval logs can be read.",
});
