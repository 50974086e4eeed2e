// The frame around the views: switches, notes on what is missing, and drawing.

const THEMES = [["", "◐", "as the system"], ["light", "☀", "light"], ["dark", "☾", "dark"]];
let theme = 0;

function drawView(view) {
  const section = find(view.id);
  const why = view.missing(board());
  section.hidden = Boolean(why && view.optional);  // a view of what few logs have is not missed
  document.querySelector(`nav a[href="#${view.id}"]`).hidden = section.hidden;
  for (const part of section.children) if (part.tagName !== "H2" && !part.classList.contains("empty")) part.classList.toggle("gone", Boolean(why));
  section.querySelector(":scope > .empty")?.remove();
  if (!why) view.draw(board());
  else if (!view.optional) section.append(element("p", { class: "empty", text: why }));
}

function drawAll(only = () => true) {
  for (const view of views.filter(only)) drawView(view);
}

function drawSwitches() {
  const names = { paper: "Paper", reference: narrow() ? "Code" : "Released code" };
  find("definition").replaceChildren(...Object.entries(names).map(([name, text]) => element("button", {
    type: "button", text, "aria-pressed": String(state.definition === name), "data-definition": name,
    title: name === "paper" ? "The definitions in the paper's text" : "What the released scripts compute from the same logs",
    onclick: () => { state.definition = name; drawSwitches(); drawAll((view) => view.byDefinition); },
  })));
  const [value, sign, name] = THEMES[theme];
  const button = find("theme");
  button.textContent = sign;
  button.title = `Colours: ${name}`;
  button.setAttribute("aria-label", `Colours: ${name}. Click for ${THEMES[(theme + 1) % 3][2]}.`);
  button.onclick = () => { theme = (theme + 1) % 3; redraw(); };
  if (value) document.documentElement.dataset.theme = value;
  else delete document.documentElement.dataset.theme;
}

function redraw() {
  drawSwitches();
  drawAll();
}

function drawIntro() {
  const { facts } = board();
  const many = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;
  const people = facts.forget_people ? ` about ${facts.forget_people} people` : "";
  const forget = facts.forget_items ? ` The forget set has ${many(facts.forget_items, "item")}${people}.` : "";
  find("summary").textContent = `${board().title}: ${many(facts.runs, "run")} of ${many(facts.methods, "method")}, each asked ${many(facts.items, "question")}.${forget} ` +
    "Every model is compared with gold, which never saw the forget set.";
  find("notes").replaceChildren(...gateNotes(), ...missingNotes());
}

function gateNotes() {
  return board().gates.filter((gate) => gate.memorised !== true || board().gates.length === 1).map((gate) => {
    const gap = `Forget metric: base ${number(gate.base)}, gold ${number(gate.gold)}; difference ${number(gate.gap)}` + (gate.interval ? `, 95 % interval [${number(gate.interval[0])}, ${number(gate.interval[1])}]` : "");
    if (gate.memorised === true) return element("p", { class: "note", "data-gate": "true", text: `There was something to forget: base knows the forget set clearly better than gold. ${gap}.` });
    if (gate.memorised === false) return element("p", { class: "note bad", "data-gate": "false" }, element("b", { text: "This comparison means little. " }), `Base does not know the forget set clearly better than gold, so there was hardly anything to forget. ${gap}. Finetune base for longer, then unlearn again.`);
    if (gate.base != null) return element("p", { class: "note", "data-gate": "few", text: `Whether there was something to forget cannot be told: fewer than four people. ${gap}.` });
    return element("p", { class: "note", "data-gate": "null", text: "It was not checked whether there was something to forget: no base model was given (base_result)." });
  });
}

function missingNotes() {
  const notes = [];
  const { problems } = board();
  const empty = views.filter((view) => !view.optional).map((view) => [view.name, view.missing(board())]).filter(([, why]) => why);
  if (problems.length || empty.length) {
    const runs = problems.map(({ label, why }) => element("li", { text: `${label}: ${why}` }));
    const lost = empty.map(([name, why]) => element("li", { text: `${name}: ${why}` }));
    const what = [problems.length ? `the eval logs of ${problems.length} run${problems.length === 1 ? "" : "s"} cannot be read, so truth ratios, answers, people, training and cost lack them` : "", empty.length ? `missing views: ${empty.map(([name]) => name).join(", ")}` : ""].filter(Boolean).join("; ");
    notes.push(element("details", { class: "note bad", id: "missing" }, element("summary", { text: `Not everything is here: ${what}.` }), element("ul", {}, ...lost, ...runs)));
  }
  const pictures = Object.keys(DATA.pictures).length;
  if (DATA.pictures_left_out) notes.push(element("p", { class: "note", text: `${DATA.pictures_left_out} pictures are left out to keep this file small; ${pictures} are here.` }));
  if (DATA.pictures_missing) notes.push(element("p", { class: "note", text: `${DATA.pictures_missing} pictures are gone from the result folders.` }));
  return notes;
}

function start() {
  document.querySelector("nav").append(...views.map((view) => element("a", { href: `#${view.id}`, text: view.name })));
  for (const part of document.querySelectorAll("section[data-nav]")) {
    document.querySelector("nav").append(element("a", { href: `#${part.id}`, text: part.dataset.nav }));
  }
  choices(find("board"), DATA.boards.map((one, place) => [place, one.title]));
  find("choose-board").hidden = DATA.boards.length < 2;
  find("board").onchange = () => { state.board = Number(find("board").value); sorting.key = null; asked.fate = ""; drawIntro(); drawAll(); };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (theme === 0) drawAll(); });
  let wasNarrow = narrow();
  window.addEventListener("resize", () => { if (narrow() !== wasNarrow) { wasNarrow = narrow(); redraw(); } });
  find("footer").textContent = "This file is complete: it loads nothing from anywhere. Charts: plotly.js (MIT).";
  drawSwitches();
  drawIntro();
  drawAll();
  document.documentElement.dataset.ready = "true";
}

start();
