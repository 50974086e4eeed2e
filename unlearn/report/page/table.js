// The leaderboard: one line per method (seeds pooled), sortable by every column; gold and base stay on top.

const sorting = { key: null, descending: true };
const GOAL_MARKS = { up: "↑", gold: "◎" };

function drawTable(shown) {
  const { columns, lines } = shown.table[state.definition];
  const several = lines.some((line) => line.seeds > 1);
  const modality = lines.some((line) => line.modality && line.role === "model");
  const wide = !narrow();  // on a phone modality and seeds stand under the method's name
  const fixed = [{ key: "label", name: "Method" }, ...(modality && wide ? [{ key: "modality", name: "Modality" }] : []), ...(several && wide ? [{ key: "seeds", name: "Seeds" }] : [])];
  if (![...fixed, ...columns].some((column) => column.key === sorting.key)) sorting.key = null;
  const head = element("tr", {}, ...[...fixed, ...columns].map((column) => headCell(column, shown)));
  const anchors = lines.filter((line) => line.role !== "model");
  const models = sortedLines(lines.filter((line) => line.role === "model"));
  const rows = [...anchors, ...models].map((line, place) => lineRow(line, fixed, columns, place === anchors.length - 1));
  find("board-table").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
  drawTableNotes(lines, columns);
}

function headCell(column, shown) {
  const sorted = sorting.key === column.key;
  const cell = element("th", { scope: "col", class: column.part ? "part" : "", "aria-sort": sorted ? (sorting.descending ? "descending" : "ascending") : null, "data-key": column.key });
  const button = element("button", { type: "button", text: column.name, onclick: () => {
    sorting.descending = sorted ? !sorting.descending : !["label", "modality"].includes(column.key) && column.goal !== "gold";
    sorting.key = column.key;
    drawTable(shown);
    find("board-table").querySelector(`th[data-key="${CSS.escape(column.key)}"] button`).focus();
  } });
  cell.append(button);
  if (column.goal && !column.part) button.append(element("span", { class: "goal", text: `\u00a0${GOAL_MARKS[column.goal]}` }));
  return cell;
}

function sortedLines(lines) {
  if (sorting.key === null) return lines;
  const value = (line) => sorting.key in line.cells ? line.cells[sorting.key].value : line[sorting.key];
  const sign = sorting.descending ? -1 : 1;
  return [...lines].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (!known(a) || !known(b)) return known(b) - known(a);  // a missing number is last either way
    return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
  });
}

function lineRow(line, fixed, columns, lastAnchor) {
  const kind = [line.role === "model" ? "" : "anchor", lastAnchor ? "last-anchor" : "", line.low_retain && line.role === "model" ? "low" : ""];
  const row = element("tr", { class: kind.join(" ").trim(), "data-label": line.label });
  for (const column of fixed) {
    const cell = element("td", { text: column.key === "label" ? undefined : String(line[column.key]) });
    if (column.key === "label") {
      cell.append(dot(line), line.label);
      const under = [line.role === "model" ? line.modality : "", line.seeds > 1 ? `${line.seeds} seeds` : ""].filter(Boolean);
      if (narrow() && under.length) cell.append(element("span", { class: "tag", text: under.join(" · ") }));
      if (line.low_retain && line.role === "model") cell.append(element("span", { class: "tag", text: "Retain < 0.4" }));
      if (line.other_gold) cell.append(element("span", { class: "tag", text: "another gold" }));
      if (line.memorised === false) cell.append(element("span", { class: "tag", text: "not memorised" }));
    }
    row.append(cell);
  }
  for (const column of columns) row.append(numberCell(line, column));
  return row;
}

function numberCell(line, column) {
  const cell = line.cells[column.key];
  const made = element("td", { class: column.part ? "part" : "" });
  if (!cell) return made;
  made.append(column.significant ? small(cell.value) : number(cell.value, column.digits));
  if (cell.bar && !column.part && column.interval) {
    const shown = (value) => number(value, column.digits);
    const text = line.seeds > 1 ? `± ${shown(cell.value - cell.bar[0])}` : `[${shown(cell.bar[0])}, ${shown(cell.bar[1])}]`;
    made.append(element("span", { class: "range", text }));
  }
  if (column.goal && !column.part && column.bounded) {
    const fill = element("i");
    fill.style.width = `${100 * Math.min(1, Math.max(0, cell.value))}%`;
    if (line.role === "gold") fill.style.background = "var(--gold)";
    if (line.low_retain && line.role === "model") fill.style.background = "var(--never)";
    made.append(element("span", { class: "meter" }, fill));
  }
  return made;
}

function drawTableNotes(lines, columns) {
  const paper = state.definition === "paper";
  const notes = [];
  if (paper && lines.some((line) => line.seeds === 1)) notes.push("[low, high]: 95 % interval over people, or over items where people are not known; none under four people. Overlapping intervals are no test of a difference.");
  if (lines.some((line) => line.seeds > 1)) notes.push("±: standard deviation over seeds.");
  if (columns.some((column) => column.name === "Floor")) notes.push("Floor: the Forget Quality that two models without any difference get on average at this sample size. A value near or above it cannot be told from gold.");
  if (lines.some((line) => line.low_retain && line.role === "model")) notes.push("Grey: Retain under 0.4. The model lost what it should keep, so its forgetting says little.");
  if (lines.some((line) => line.other_gold)) notes.push("Another gold: measured against an earlier log of gold than the one shown; aggregate it again to compare.");
  const unchecked = [...new Set(lines.flatMap((line) => line.unchecked))];
  if (unchecked.length) notes.push(`The logs do not say, so that it was not compared with how gold was asked: ${unchecked.join(", ")}.`);
  if (!paper) notes.push("These are the numbers of the released scripts, computed from the same logs; they are not comparable with the paper's definition.");
  if (!lines.some((line) => line.role === "gold")) notes.push("Gold and base are not shown: this definition needs their eval logs, and numbers that this track lacks.");
  find("table-notes").replaceChildren(...notes.map((text) => element("p", { text })));
}

const DEFINITIONS = [
  ["Paper", "the definitions in the text of the paper, with one truth ratio per item. The default."],
  ["Released code", "what the released scripts compute from the same log. Among other things they average all wrong answers of a split into one number, take min(r, 1/r) as the truth ratio of the forget set, and compare raw vectors as if they were distributions. Use it only to compare with published numbers."],
];

views.push({
  id: "table", name: "Leaderboard", byDefinition: true, missing: () => "",
  draw(shown) {
    const list = [...DATA.meanings, ...DEFINITIONS].map(([name, text]) => element("p", {}, element("b", { text: `${name}: ` }), text));
    find("meanings").replaceChildren(...list);
    drawTable(shown);
  },
});
