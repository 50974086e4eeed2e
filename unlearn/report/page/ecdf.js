// One panel per run: gold's distribution function of u, the run's, and a bar where they are furthest apart.

const PANELS = 12;

function drawEcdf(shown, all = false) {
  const { gold, panels } = shown.ecdf;
  const place = find("ecdf-panels");
  for (const old of place.querySelectorAll(".plot")) Plotly.purge(old);
  place.replaceChildren();
  const visible = all ? panels : panels.slice(0, PANELS);
  const sorted = [...visible].sort((one, other) => (one.role === "model") - (other.role === "model"));
  for (const panel of sorted) place.append(ecdfPanel(panel, gold));
  const more = find("ecdf-more");
  more.hidden = all || panels.length <= PANELS;
  more.textContent = `Show all ${panels.length}`;
  more.onclick = () => drawEcdf(shown, true);
}

function ecdfPanel(panel, gold) {
  const plot = element("div", { class: "plot", role: "img", "aria-label": `Truth ratios of ${panel.label} and gold, KS distance ${number(panel.ks.distance)}` });
  const title = element("h3", {}, element("b", {}, dot(panel), panel.label), element("span", { text: `D = ${number(panel.ks.distance)}` }));
  const made = element("div", { class: "panel", "data-label": panel.label }, title, plot);
  const steps = (values, own, width, name, dash) => ({
    x: [0, ...values, 1], y: [0, ...values.map((_, place) => (place + 1) / values.length), 1], mode: "lines", name: plain(name),
    line: { shape: "hv", color: own, width, dash }, hovertemplate: "u = %{x:.2f}: %{y:.0%}<extra>" + plain(name) + "</extra>",
  });
  const { at, model, gold: theirs, distance } = panel.ks;
  const bar = { x: [at, at], y: [model, theirs], mode: "lines+markers", line: { color: colour("text"), width: 2 }, marker: { symbol: "line-ew-open", size: 9, color: colour("text") }, hovertemplate: `D = ${number(distance, 3)} at u = ${number(at)}<extra></extra>` };
  whenVisible(plot, () => chart(plot, [steps(gold, colour("gold"), 2, "gold", "dot"), steps(panel.u, runColour(panel), 2, panel.label), bar], {
    margin: { l: 34, r: 24, t: 6, b: 34 }, height: 220,
    xaxis: axis("", { range: [-0.02, 1.02], tickvals: [0, 0.5, 1], ticktext: ["knows", "½", "wrong"], ticklabeloverflow: "allow", zeroline: false }),
    yaxis: axis("", { range: [-0.03, 1.04], tickvals: [0, 0.5, 1], zeroline: false }),
  }));
  return made;
}

function whenVisible(place, draw) {  // a long page of charts is drawn as it is read
  const watcher = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { watcher.disconnect(); draw(); }
  }, { rootMargin: "600px" });
  watcher.observe(place);
}

views.push({
  id: "ecdf", name: "Truth ratios", draw: (shown) => drawEcdf(shown),
  missing: (shown) => !shown.ecdf ? "Gold's eval log is gone, so there is nothing to compare the truth ratios with." :
    shown.ecdf.panels.length ? "" : "No eval log but gold's is left.",
});
