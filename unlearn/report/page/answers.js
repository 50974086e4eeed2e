// Answers of all runs to the same question, and what became of each fact. Filters: task, run, fate, words.

const CARDS = 12;
const asked = { fate: "", shown: CARDS };

function answersTask(shown) {
  return shown.answers.tasks[Number(find("answers-task").value)];
}

function visibleRuns(shown) {  // places in `answers` of each row: base, gold, and the chosen run or all
  const chosen = find("answers-run").value;
  const order = { base: 0, model: 1, gold: 2 };
  return shown.answers.runs.map((run, place) => ({ ...run, place })).sort((one, other) => order[one.role] - order[other.role])
    .filter((run) => run.role !== "model" || chosen === "" || run.label === chosen);
}

function matching(shown, fate) {
  const words = find("answers-search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  const runs = visibleRuns(shown);
  return answersTask(shown).rows.filter((row) => {
    const fates = runs.filter((run) => run.role === "model").map((run) => row.answers[run.place][2]);
    if (fate && !fates.includes(fate)) return false;
    if (!words.length) return true;
    const text = [row.question, row.reference, row.author ?? "", ...runs.map((run) => row.answers[run.place][0])].join(" ").toLocaleLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function drawCards(shown) {
  const task = answersTask(shown);
  const rows = matching(shown, asked.fate);
  const chips = [["", "all", matching(shown, "").length], ...Object.keys(FATES).map((fate) => [fate, fate, matching(shown, fate).length])];
  const judged = Object.keys(task.fates).length > 0;
  find("answers-fates").replaceChildren(...(judged ? chips : []).map(([fate, name, count]) => element("button", {
    type: "button", "aria-pressed": String(asked.fate === fate), "data-fate": fate,
    onclick: () => { asked.fate = fate; asked.shown = CARDS; drawCards(shown); },
  }, name, element("span", { class: "count", text: String(count) }))));
  const visible = rows.slice(0, asked.shown);
  const sample = task.rows.length < task.total ? ` The page holds ${task.rows.length} of the ${task.total} rows of this task, at even distances, to stay small.` : "";
  find("answers-count").textContent = `${visible.length} of ${rows.length} shown.${sample}`;
  find("cards").replaceChildren(...visible.map((row) => card(row, visibleRuns(shown))));
  const more = find("answers-more");
  more.hidden = rows.length <= asked.shown;
  more.onclick = () => { asked.shown += CARDS; drawCards(shown); };
}

function card(row, runs) {
  const uri = row.image ? DATA.pictures[row.image] : null;
  const list = element("dl", {}, answer("Reference", row.reference, null, null, "reference"));
  for (const run of runs) {
    const [text, recall, fate] = row.answers[run.place];
    list.append(answer(element("span", {}, dot(run), run.label), text, recall, fate, ""));
  }
  const words = element("div", {},
    element("p", { class: "ask" }, element("b", { text: row.question || `Row ${row.id}` })),
    element("p", { class: "who", text: [row.author, row.question ? `row ${row.id}` : null].filter(Boolean).join(" · ") }));
  const body = narrow() ? [words, list] : [element("div", {}, words, list)];
  return element("article", { class: uri ? "item" : "item plain", "data-row": row.id }, uri ? element("img", { src: uri, alt: "The picture the question is about", loading: "lazy" }) : null, ...body);
}

function answer(who, text, recall, fate, kind) {
  const score = element("dd", { class: "score" }, known(recall) ? `recall ${number(recall)}` : "", fate ? element("span", { class: `fate ${FATES[fate]}`, text: fate }) : null);
  return element("div", { class: kind }, element("dt", {}, who), element("dd", { class: text ? "text" : "text none", text: text || "(no answer)" }), score);
}

function drawFates(shown) {
  const task = answersTask(shown);
  const labels = Object.keys(task.fates);
  const place = chartOf("fates");
  place.hidden = !labels.length;
  if (!labels.length) return;
  const rows = [...labels].reverse();
  const traces = Object.entries(FATES).map(([fate, name]) => ({
    type: "bar", orientation: "h", name: fate, y: rows.map(plain), x: rows.map((label) => task.fates[label][fate] / task.total),
    customdata: rows.map((label) => task.fates[label][fate]), marker: { color: colour(name) },
    hovertemplate: `%{y}<br>${fate}: %{customdata} of ${task.total} (%{x:.0%})<extra></extra>`,
  }));
  chart(place, traces, {
    barmode: "stack", bargap: 0.35, height: 84 + 26 * labels.length, margin: { l: 10, r: 26, t: 34, b: 30 }, showlegend: true,
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "normal", font: { size: narrow() ? 11 : 12 } },
    xaxis: axis("", { range: [0, 1], tickformat: ".0%", zeroline: false }), yaxis: axis("", { type: "category", gridcolor: "rgba(0,0,0,0)" }),
  });
}

function drawRules(shown) {
  const { margin, has_base: base, max_characters: cut } = shown.answers;
  const forget = base ? [
    `over-forgotten: the run's recall is more than ${margin} below both base's and gold's: worse than a model that never saw the fact;`,
    `never learned: base's recall is not at least ${margin} above gold's, so there was nothing to forget;`,
    "kept: the run is at least half-way from gold's recall back to base's;", "forgotten: the rest.",
  ] : [
    `over-forgotten: the run's recall is more than ${margin} below gold's;`, `kept: it is at least ${margin} above gold's;`,
    "forgotten: the rest. Without a base log it is not known what was never learned.",
  ];
  const keep = [`over-forgotten: more than ${margin} below both base's and gold's recall, that is, lost by unlearning;`, ...(base ? [`never learned: base's own recall is under ${margin};`] : []), "kept: the rest."];
  const list = (items) => element("ul", {}, ...items.map((text) => element("li", { text })));
  find("fate-rules").replaceChildren(
    element("p", { text: "By ROUGE-L recall: the share of the reference's words that the answer holds in their order. The first rule that fits counts. In tasks to forget:" }),
    list(forget), element("p", { text: "In all other tasks:" }), list(keep),
    element("p", { text: `Recall rewards long answers and knows no synonyms: read the answers. Texts are cut after ${cut} characters; the chart above counts all rows of the task.` }));
}

views.push({
  id: "answers", name: "Answers", missing: (shown) => shown.answers ? "" : "No eval log is left, and answers are kept nowhere else.",
  draw(shown) {
    const { tasks, runs } = shown.answers;
    find("answers-how").textContent = "The same question to every model. Base was finetuned on everything, gold never saw the forget set; the unlearned ones started from base.";
    choices(find("answers-task"), tasks.map((task, place) => [place, task.label + (task.forget ? " (to forget)" : "")]));
    choices(find("answers-run"), [["", "all runs"], ...runs.filter((run) => run.role === "model").map((run) => [run.label, run.label])]);
    const again = () => { asked.shown = CARDS; drawCards(shown); };
    find("answers-task").onchange = () => { asked.fate = ""; again(); drawFates(shown); };
    find("answers-run").onchange = again;
    find("answers-search").oninput = again;
    drawRules(shown);
    drawFates(shown);
    drawCards(shown);
  },
});
