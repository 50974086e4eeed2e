// What every view uses: the data, the chosen comparison and definition, colours, and safe text. All text from the logs is
// written with textContent; plotly reads a little HTML in its labels, so there it passes through plain().

const DATA = JSON.parse(document.getElementById("data").textContent);
const state = { board: 0, definition: "paper" };
const views = [];  // { id, name, draw(board), missing(board): why the view is empty, or "" }

const board = () => DATA.boards[state.board];
const find = (id) => document.getElementById(id);
const chartOf = (name) => document.querySelector(`[data-chart="${name}"]`);

function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  const { text, ...rest } = options;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(rest)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const known = (value) => value !== null && value !== undefined;

function number(value, digits = 2) {
  return known(value) ? value.toFixed(digits) : "–";
}

function small(value) {  // p-values: 0.31, 0.004, 2e-9
  if (!known(value)) return "–";
  return value === 0 || value >= 0.095 ? value.toFixed(2) : value >= 0.001 ? value.toFixed(3) : value.toExponential(0);
}

function seconds(value) {
  if (!known(value)) return "–";
  if (value < 600) return `${value.toFixed(value < 10 ? 1 : 0)} s`;
  return value < 7200 ? `${(value / 60).toFixed(0)} min` : `${(value / 3600).toFixed(1)} h`;
}

function memory(value) {
  return known(value) ? (value >= 1024 ? `${(value / 1024).toFixed(1)} GiB` : `${value.toFixed(0)} MiB`) : "–";
}

// ---- colours ----------------------------------------------------------------------------------------------------------

const probe = document.body.appendChild(element("span", { hidden: true }));

function colour(name) {  // the colour a style variable has in the theme of the moment
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const SYMBOLS = ["circle", "square", "triangle-up", "triangle-down", "cross", "x", "diamond", "pentagon", "hexagon", "star-triangle-up"];
const FATES = { forgotten: "forgotten", kept: "kept", "over-forgotten": "over", "never learned": "never" };

const methodOf = (label) => label.replace(/ \[[^\]]*\]$/, "");

function methods() {
  return [...new Set(board().table.paper.lines.filter((line) => line.role === "model").map((line) => methodOf(line.label)))];
}

function colourName(run) {  // one colour per method on the whole page
  if (run.role === "gold") return "gold";
  if (run.role === "base") return "text";
  const place = methods().indexOf(run.method ?? methodOf(run.label));
  return `c${Math.max(0, place) % 8}`;
}

const runColour = (run) => colour(colourName(run));

function symbolOf(run) {
  if (run.role === "gold") return "star";
  if (run.role === "base") return "diamond";
  return SYMBOLS[Math.max(0, methods().indexOf(run.method ?? methodOf(run.label))) % SYMBOLS.length];
}

function dot(run) {
  if (run.role === "gold") return element("span", { class: "dot star" });
  if (run.role === "base") return element("span", { class: "dot square" });
  const made = element("span", { class: "dot" });
  made.style.background = `var(--${colourName(run)})`;
  return made;
}

// ---- charts -----------------------------------------------------------------------------------------------------------

const narrow = () => window.innerWidth < 700;

function axis(title, more = {}) {
  return {
    title: { text: title, font: { size: 13 }, standoff: 8 }, gridcolor: colour("grid"), linecolor: colour("line"), zerolinecolor: colour("line"),
    automargin: true, ...more,
  };
}

function chart(place, traces, layout) {
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 50, r: 12, t: 12, b: 44 }, showlegend: false,
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 12, color: colour("text") },
    hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("text") }, align: "left" },
    hovermode: "closest", dragmode: false,
  };
  if (layout.height) place.style.height = `${layout.height}px`;
  const config = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };
  return Plotly.react(place, traces, { ...base, ...layout }, config);
}

function choices(select, options, chosen) {  // fills a <select> with [value, text] pairs, keeps what was chosen if it is still there
  const values = options.map(([value]) => String(value));
  const before = values.includes(select.value) ? select.value : String(chosen ?? values[0] ?? "");
  select.replaceChildren(...options.map(([value, text]) => element("option", { value, text })));
  select.value = before;
}
