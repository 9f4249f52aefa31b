/** σ max of each role against width, with its slope; logarithmic both ways. */
function widthChart(host, chart) {
  const scales = new Set(chart.models.map((m) => m.width)).size > 1;
  const xs = chart.models.map((m, i) => scales ? Math.log10(m.width) : i);
  const drawn = chart.roles.filter((role) => role.medians.some((v) => v > 0));
  const spans = drawn.map((role) => {
    const all = [...role.medians, ...role.layers.flat()].filter((v) => v > 0).map(Math.log10);
    return [Math.min(...all), Math.max(...all)];
  });
  const span = Math.min(Math.max(...spans.map(([a, b]) => b - a), 0.05) * 1.15, 2);
  const panels = drawn.map((role, i) => widthPanel(role, chart.models, xs, (spans[i][0] + spans[i][1]) / 2, span, scales));
  const line = (name, words) => el("span", {}, svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, svg("path", { class: name, d: "M0 5H26" })), words);
  const dot = (name, shape, words) => el("span", {}, svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, svg("path", { class: name, d: mark(shape, 7, 7, shape ? 4 : 2.6) })), words);
  host.replaceChildren(el("div", { class: "tools" }, el("h3", {}, "σ max against width")), el("div", { class: "panels" }, panels),
    el("div", { class: "legend" }, dot("f1", 1, "median over layers"), dot("layers", 0, "layers"), scales ? line("fit", "fitted") : null,
      drawn.some((role) => role.expected !== null) ? line("law", "what eta and lambda lead to") : null, "All panels span the same ratio."));
}
function widthPanel(role, models, xs, middle, span, scales) {
  const width = 262, height = 178, box = [42, 8, width - 10, height - 26];
  const first = Math.min(...xs), last = Math.max(...xs), side = (last - first) * 0.09 || 0.5;
  const x = (v) => box[0] + (v - first + side) / (last - first + 2 * side) * (box[2] - box[0]);
  const low = middle - span / 2, high = middle + span / 2;
  const y = (v) => box[3] - (v - low) / span * (box[3] - box[1]);
  const inside = (v) => v > 0 && Math.log10(v) >= low && Math.log10(v) <= high;
  const seen = new Set();
  const labels = models.map((m, i) => [xs[i], scales ? String(m.width) : m.name]).filter(([at]) => !seen.has(at) && seen.add(at));
  const step = Math.ceil(labels.length / 5);
  const interval = role.low === null ? "" : ` [${signed(role.low)}, ${signed(role.high)}]`;
  const words = role.slope === null ? "no slope" : `slope ${signed(role.slope)}${interval}`;
  const match = role.ok === null || !role.counted ? "" : role.ok ? ", matches the proxy" : ", does not match the proxy";
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${role.role}: ${words}${match}` },
    axes({ x, y, box }, labels.filter((_, i) => i % step === 0), powers(low, high, 4).map((p) => [p, few(10 ** p, 2)])));
  const known = role.medians.map((v, i) => [xs[i], v]).filter(([, v]) => v > 0).map(([a, v]) => [a, Math.log10(v)]);
  const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
  if (scales && role.slope !== null && known.length) {
    const cx = mean(known.map(([a]) => a)), cy = mean(known.map(([, b]) => b));
    const at = (slope, from, base) => (v) => base + slope * (v - from);
    const draw = (f, name) => picture.append(svg("path", { class: name, d: `M${x(first)} ${y(f(first))}L${x(last)} ${y(f(last))}` }));
    if (role.expected !== null) draw(at(role.expected, known[0][0], known[0][1]), "law");
    draw(at(role.slope, cx, cy), "fit");
  }
  const dots = role.layers.flatMap((values, i) => values.length > 1 ? values.filter(inside).map((v) => mark(0, x(xs[i]), y(Math.log10(v)), 2)) : []);
  picture.append(svg("path", { class: "layers", d: dots.join("") }));
  const points = role.medians.map((v, i) => ({ v, i })).filter(({ v }) => inside(v)).map(({ v, i }) => ({ v, i, x: x(xs[i]), y: y(Math.log10(v)) }));
  picture.append(svg("path", { class: "f1", d: points.map((p) => mark(1, p.x, p.y, 4)).join("") }));
  probe(picture, points, (p) => `${models[p.i].name}${scales ? `, width ${models[p.i].width}` : ""}\nσ max ${few(p.v)}`);
  return el("div", {}, el("h4", {}, role.counted ? role.role : `(${role.role})`, match ? ` ${role.ok ? "✓" : "✕"}` : ""), el("p", {}, words + match), picture);
}

/** Each role's median over the steps of a run: three panels, one line a role. */
function trendChart(host, chart) {
  const panels = chart.metrics.map((metric) => trendPanel(chart, metric));
  const key = chart.roles.map((role, i) => el("span", {}, svg("svg", { width: 30, height: 14, "aria-hidden": "true" },
    svg("path", { class: `line s${i % 6 + 1}`, d: "M0 7H30", "stroke-dasharray": DASHES[Math.floor(i / 6) % 3] }), svg("path", { class: `f${i % 6 + 1}`, d: mark(i, 15, 7, 4) })), role.role));
  host.replaceChildren(el("div", { class: "tools" }, el("h3", {}, chart.title || "Over the steps, median of each role")), el("div", { class: "panels three" }, panels), el("div", { class: "legend" }, key));
}
const DASHES = ["none", "7 4", "2 3"];
function trendPanel(chart, metric) {
  const width = 350, height = 220, box = [48, 10, width - 12, height - 28];
  const { steps, roles } = chart;
  const all = roles.flatMap((role) => role[metric.key]).filter((v) => v > 0).map(Math.log10);
  if (!all.length) return el("div", {}, el("h4", {}, metric.title), el("p", {}, "no values"));
  const pad = (Math.max(...all) - Math.min(...all)) * 0.06 || 0.05, low = Math.min(...all) - pad, high = Math.max(...all) + pad;
  const first = Math.min(...steps), last = Math.max(...steps);
  const x = (v) => box[0] + 8 + (v - first) / (last - first || 1) * (box[2] - box[0] - 16);
  const y = (v) => box[3] - (v - low) / (high - low) * (box[3] - box[1]);
  const change = roles.map((role) => { const known = role[metric.key].filter((v) => v > 0); return known.length > 1 ? `${role.role} ${few(known[0], 3)} to ${few(known.at(-1), 3)}` : null; }).filter(Boolean);
  const marks = ticks(first, last, 4).filter((t) => t >= first && t <= last);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${metric.title} over the steps: ${change.join("; ")}` },
    axes({ x, y, box }, marks.map((t) => [t, whole(t)]), powers(low, high, 5).map((p) => [p, few(10 ** p, 2)])));
  const points = [];
  roles.forEach((role, i) => {
    const line = role[metric.key].map((v, k) => v > 0 ? { x: x(steps[k]), y: y(Math.log10(v)), v, step: steps[k], role: role.role } : null);
    let pen = "M";
    const d = line.map((p) => { if (!p) { pen = "M"; return ""; } const piece = `${pen}${p.x} ${p.y}`; pen = "L"; return piece; }).join("");
    const known = line.filter(Boolean);
    const every = Math.ceil(known.length / 12);
    picture.append(svg("path", { class: `line s${i % 6 + 1}`, d, "stroke-dasharray": DASHES[Math.floor(i / 6) % 3] }),
      svg("path", { class: `f${i % 6 + 1}`, d: known.filter((_, k) => k % every === 0).map((p) => mark(i, p.x, p.y, 3.4)).join("") }));
    points.push(...known);
  });
  probe(picture, points, (p) => `${p.role}, step ${whole(p.step)}\n${metric.title} ${few(p.v)}`);
  return el("div", {}, el("h4", {}, metric.title), picture);
}
