/** Everything the page knows of one matrix, and its spectrum. */
const LONG = 24;  // characters of a value, from which on it has a line of its own
let invoker = null, opened = null, asking = null;

/** Read a row's profile: σ and its rank from 0. */
function profileOf(table, row) {
  const profile = table.spec.profile;
  const count = profile?.counts[row];
  if (!count) return null;
  if (!profile.starts) {
    let sum = 0;
    profile.starts = profile.counts.map((n) => { sum += n; return sum - n; });
    profile.bytes = atob(profile.values);
  }
  const [rows, cols] = table.value("shape", row).split(" × ").map(Number), rank = Math.min(rows, cols);
  const { low, high, bytes, starts } = profile, found = [];
  for (let i = 0; i < count; i += 1) {
    const at = 2 * (starts[row] + i), level = bytes.charCodeAt(at) * 256 + bytes.charCodeAt(at + 1);
    const sigma = level === 0 ? 0 : 10 ** (low[row] + (level - 1) / 65534 * (high[row] - low[row]));
    found.push({ sigma, index: count < 2 ? 0 : Math.floor(i * (rank - 1) / (count - 1) + 0.5) });
  }
  return { points: found, rank };
}

/** Return the share of eigenvalues in each of so many bins of log10 λ. */
function density(profile, low, high, bins) {
  const { points, rank } = profile, mass = new Array(bins).fill(0), size = (high - low) / bins;
  const add = (from, to, amount) => {
    if (to - from < 1e-12) { mass[Math.min(Math.max(Math.floor((from - low) / size), 0), bins - 1)] += amount; return; }
    for (let b = 0; b < bins; b += 1) {
      const shared = Math.min(to, low + (b + 1) * size) - Math.max(from, low + b * size);
      if (shared > 0) mass[b] += amount * shared / (to - from);
    }
  };
  const lambda = (p) => 2 * Math.log10(p.sigma);
  const positive = points.filter((p) => p.sigma > 0);
  if (points.length >= rank) for (const p of positive) add(lambda(p), lambda(p), 1 / rank);
  else for (let i = 1; i < positive.length; i += 1)
    add(lambda(positive[i]), lambda(positive[i - 1]), (positive[i].index - positive[i - 1].index) / (rank - 1));
  return mass;
}

/** Density and singular values by rank of one spectrum, or of base and tuned over each other. */
function spectra(curves) {
  const positive = (curve) => curve.profile.points.some((p) => p.sigma > 0), drawn = curves.filter(positive);
  const flat = curves.filter((curve) => !positive(curve)).map((curve) => el("p", { class: "without" },
    curves.length < 2 ? "All singular values are 0." : `Every singular value of ${curve.words} is 0: it has no curve.`));
  if (!drawn.length) return flat;
  const key = drawn.length < 2 ? null : el("div", { class: "legend" }, drawn.map((curve) => el("span", {},
    svg("svg", { width: 26, height: 10, "aria-hidden": "true" }, svg("path", { class: `curve ${curve.look}`, d: "M0 5H26" })), curve.words)));
  const alone = curves.length < 2 ? "Spectral density" : `Spectral density of ${drawn[0].words}`;
  return [el("h4", {}, drawn.length < 2 ? alone : `Spectra of ${drawn.map((curve) => curve.words).join(" and ")}`), flat, key, esd(drawn), scree(drawn)].flat().filter(Boolean);
}

/** The spectral density of W'W: where λ = σ² lie; of one also its noise edge and fitted tail. */
function esd(curves) {
  const width = 440, height = 210, box = [44, 12, width - 12, height - 36];
  const [{ table, row }] = curves, alone = curves.length === 1;
  const positive = curves.map(({ profile }) => profile.points.filter((p) => p.sigma > 0));
  const tops = positive.map((points) => 2 * Math.log10(points[0].sigma)), leasts = positive.map((points) => 2 * Math.log10(points.at(-1).sigma));
  const top = Math.max(...tops), least = Math.min(...leasts);
  const edge = alone ? table.value("mp_edge", row) : null, alpha = alone ? table.value("alpha", row) : null, start = table.value("alpha_xmin", row);
  const bound = edge ? Math.max(top, 2 * Math.log10(edge)) : top;
  const low = Math.max(Math.min(least, top - 0.2), bound - 5), high = bound + 0.06 * (bound - low);
  const bins = 36, masses = curves.map(({ profile }) => density(profile, low, high, bins)), size = (high - low) / bins;
  const highest = Math.max(...masses.flat()) / size || 1;
  const x = (v) => box[0] + (v - low) / (high - low) * (box[2] - box[0]);
  const y = (v) => box[3] - Math.min(v / highest / 1.18, 1) * (box[3] - box[1]);
  const hidden = curves.reduce((sum, { profile }, i) => sum + profile.points.length - positive[i].length, 0);
  const bars = masses[0].map((m, b) => m > 0 ? svg("rect", { class: "hist", x: x(low + b * size) + 0.5, y: y(m / size), width: Math.max(x(size + low) - x(low) - 1, 1), height: box[3] - y(m / size) }) : null);
  const steps = masses.slice(1).map((mass, i) => svg("path", { class: `curve ${curves[i + 1].look}`,
    d: `M${x(low)} ${box[3]}` + mass.map((m, b) => `V${y(m / size).toFixed(1)}H${x(low + (b + 1) * size).toFixed(1)}`).join("") + `V${box[3]}` }));
  const told = curves.map((curve, i) => `${alone ? "" : `${curve.words}: `}λ from ${few(10 ** leasts[i], 2)} to ${few(10 ** tops[i], 2)}`).join("; ");
  const label = `Spectral density: ${told}` + (edge ? `, noise edge at ${few(edge ** 2, 3)}` : "") + (alpha ? `, tail exponent ${few(alpha, 3)}` : "");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "esd", "aria-label": label },
    axes({ x, y, box }, powers(low, high).map((p) => [p, few(10 ** p, 2)]), ticks(0, highest, 3).map((t) => [t, few(t, 2)])), bars, steps,
    svg("text", { class: "end", x: box[2], y: height - 4 }, "λ = σ², logarithmic"));
  if (alpha && start) {
    const { profile } = curves[0];
    const from = Math.log10(start), tail = density(profile, from, Math.max(top, from + 1e-6), 1)[0];
    const share = positive[0].filter((p) => 2 * Math.log10(p.sigma) >= from - 1e-9).length > 1 ? tail : 0;
    if (share > 0) {
      const curve = Array.from({ length: 41 }, (_, i) => from + i / 40 * (high - from)).filter((v) => v >= low)
        .map((v) => `${x(v).toFixed(1)} ${y(share * (alpha - 1) * Math.LN10 * 10 ** ((v - from) * (1 - alpha))).toFixed(1)}`);
      if (curve.length > 1) picture.append(svg("path", { class: "law", d: "M" + curve.join("L") }));
    }
  }
  if (edge) {
    const at = x(2 * Math.log10(edge)), right = at > (box[0] + box[2]) / 2;
    picture.append(svg("line", { class: "edge", x1: at, x2: at, y1: box[1], y2: box[3] }),
      svg("text", { class: right ? "end ink" : "ink", x: at + (right ? -5 : 5), y: box[1] + 10 }, "noise edge"));
  }
  const { rank, points } = curves[0].profile;
  const notes = [`${whole(rank)} singular values`, points.length < rank ? `drawn from ${points.length} of them` : null,
    least < low ? `the smallest, down to λ ${few(10 ** least, 2)}, lie left of the picture` : null, hidden ? "zeros left out" : null,
    alone ? null : `bars: ${curves[0].words}; line: ${curves[1].words}`,
    alpha ? "broken curve: the fitted power law" : null].filter(Boolean);
  return el("figure", {}, picture, el("figcaption", {}, notes.join("; ") + "."));
}

/** σ against rank. */
function scree(curves) {
  const width = 440, height = 170, box = [44, 10, width - 12, height - 34];
  const [{ table, row, profile }] = curves, alone = curves.length === 1;
  const lines = curves.map((curve) => ({ ...curve, positive: curve.profile.points.filter((p) => p.sigma > 0) }));
  const tops = lines.map((line) => Math.log10(line.positive[0].sigma)), ends = lines.map((line) => Math.log10(line.positive.at(-1).sigma));
  const edge = alone ? table.value("mp_edge", row) : null, top = Math.max(...tops);
  const reach = edge ? Math.max(top, Math.log10(edge)) : top;
  const low = Math.max(Math.min(...ends), reach - 4) - 0.05, high = reach + 0.08 * (reach - low);
  const x = (v) => box[0] + (v - 1) / Math.max(profile.rank - 1, 1) * (box[2] - box[0]);
  const y = (v) => box[3] - (Math.max(v, low) - low) / (high - low) * (box[3] - box[1]);
  const paths = lines.map((line) => svg("path", { class: alone ? "scree" : `curve ${line.look}`,
    d: line.positive.map((p, i) => `${i ? "L" : "M"}${x(p.index + 1).toFixed(1)} ${y(Math.log10(p.sigma)).toFixed(1)}`).join("")
      + (line.positive.length < 2 ? "h4" : "") }));
  const told = lines.map((line) => `${alone ? "" : `${line.words} `}${few(line.positive[0].sigma, 3)} down to ${few(line.positive.at(-1).sigma, 3)}`).join("; ");
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "scree-plot", "aria-label": `Singular values by rank: ${told}` },
    axes({ x, y, box }, ticks(1, profile.rank, 5).filter((t) => t > 0).map((t) => [t, whole(t)]), powers(low, high, 4).map((p) => [p, few(10 ** p, 2)])),
    edge ? svg("line", { class: "edge", x1: box[0], x2: box[2], y1: y(Math.log10(edge)), y2: y(Math.log10(edge)) }) : null,
    paths, svg("text", { class: "end", x: box[2], y: height - 4 }, "rank"));
  const points = lines.flatMap((line) => line.positive.map((p) => ({ x: x(p.index + 1), y: y(Math.log10(p.sigma)), ...p, words: alone ? "" : `${line.words}: ` })));
  return el("figure", {}, probe(picture, points, (p) => `${p.words}σ ${few(p.sigma)}\nrank ${whole(p.index + 1)}`));
}

/** The vectors of one matrix: |cos| of each with its best match, the limit, and chance. */
function vectorsChart(section, table, row) {
  const vectors = vectorsOf(table, row).filter((v) => v.cos !== null), chart = section.charts.find((c) => c.kind === "intruders");
  if (!vectors.length || !chart) return null;
  const width = 440, height = 170, box = [36, 12, width - 134, height - 34], n = Math.max(...vectors.map((v) => v.index)) + 1;
  const x = (i) => box[0] + (i + 0.5) / n * (box[2] - box[0]), y = (v) => box[3] - v * (box[3] - box[1]);
  const points = vectors.map((v) => ({ ...v, x: x(v.index), y: y(v.cos) }));
  const count = vectors.filter((v) => v.intruder).length, chance = table.value("null_cos", row);
  // Words stand beside the plot, where no mark lies.
  const rule = (at, name, words) => [svg("line", { class: name, x1: box[0], x2: box[2], y1: y(at), y2: y(at) }), svg("text", { class: `${name}word`, x: box[2] + 6, y: y(at) + 4 }, words)];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Largest |cos| of ${vectors.length} leading vectors with the base; ${count} intruders` },
    axes({ x, y, box }, ticks(0, n - 1, 10).filter(Number.isInteger).map((t) => [t, t]), [0, 0.5, 1].map((t) => [t, t])),
    rule(chart.epsilon, "limit", `intruder below ${few(chart.epsilon)}`), chance ? rule(chance, "chance", "chance") : null,
    points.filter((p) => p.error > 0.01).map((p) => svg("line", { class: "whisker", x1: p.x, x2: p.x, y1: y(Math.min(p.cos + p.error, 1)), y2: y(Math.max(p.cos - p.error, 0)) })),
    svg("path", { class: "dots", d: points.filter((p) => !p.intruder).map((p) => mark(0, p.x, p.y, 4)).join("") }),
    svg("path", { class: "bad", d: points.filter((p) => p.intruder).map((p) => mark(3, p.x, p.y, 5)).join("") }),
    svg("text", { class: "end", x: box[2], y: height - 4 }, "index of singular vector"));
  probe(picture, points, (p) => `vector ${p.index}: |cos| ${few(p.cos, 3)}${p.match === null ? "" : `, like vector ${p.match} of the base`}${p.intruder ? "\nan intruder" : ""}`);
  return el("figure", {}, el("h4", {}, "Resemblance to the base, largest |cos|"), picture, el("figcaption", {}, count ? "▲ intruder  ● matched" : "● matched"));
}

/** Open the panel for a matrix, with what was asked first; focus goes there, and back when it closes. */
function inspect(place, from, section = null, key = null) {
  const panel = byId("inspector"), name = nameOf(place);
  const step = panel.hidden || from !== null;
  if (panel.hidden) invoker = from || document.activeElement;
  opened = place;
  asking = { section, key };
  goTo(addressOf(place, section), step);
  const blocks = [];
  for (const table of TABLES.values()) {
    const column = table.columns.get("matrix");
    if (!column) continue;
    for (let row = 0; row < table.spec.rows; row += 1) if (column.data[row] === place) blocks.push(blockOf(table, row, key));
  }
  const curves = blocks.filter((block) => block.profile).map((block) => ({ ...block, ...whoseOf(block.table) }));
  const base = curves.find((curve) => curve.words === "base"), tuned = curves.find((curve) => curve.words === "tuned");
  const over = base && tuned ? [base, tuned] : null, lacking = over ? null : lacks(blocks, base, tuned);
  for (const block of blocks) {
    const mine = curves.find((curve) => curve.node === block.node);
    // Several results may hold one spectrum: it is drawn once.
    const first = mine && curves.find((curve) => curve.words === mine.words) === mine;
    if (first && !over?.some((curve) => curve.words === mine.words)) block.node.children[0].after(lacking && mine === (base || tuned) ? lacking : "", ...spectra([mine]));
  }
  if (over) blocks.push({ node: el("section", { class: "over" }, el("h3", {}, "Base and tuned"), spectra(over)), over: true, profile: over, section: null });
  // What was clicked answers first, then the spectra.
  const asked = (block) => section !== null && block.section?.id === section;
  const rank = (block) => block.over ? (curves.some(asked) ? 4 : 2) : asked(block) ? 3 : block.profile ? 1 : 0;
  blocks.sort((a, b) => rank(b) - rank(a));
  const steps = sibling(place, section);
  const turn = (to, words, sign) => el("button", { type: "button", disabled: to === null, "aria-label": words, onclick: () => inspect(to, null, section, key) }, sign);
  const heading = el("h2", { id: "inspector-title", tabindex: "-1" }, breaking(name));
  panel.replaceChildren(el("div", { class: "top" }, turn(steps[0], "Previous matrix", "‹"), turn(steps[1], "Next matrix", "›"),
    el("button", { type: "button", class: "link", onclick: (event) => copyText(location.href, event.currentTarget, "link") }, "Copy link"),
    el("button", { type: "button", class: "close", onclick: () => { leave(); goTo("", true); } }, "Close")), heading, el("p", { class: "more" }, blocks.find((block) => block.place)?.place ?? ""),
    section && !blocks.some(asked) ? el("p", { class: "without" }, "The result that this link names does not have the matrix; others on this page do.") : "",
    ...(blocks.length ? blocks.map((block) => block.node) : [el("p", {}, "This page has no row of it.")]),
    curves.length ? "" : lacking || el("p", { class: "more" }, "No spectrum of it is in this page. Add the result of: spectra spectrum MODEL -o spectrum.json"));
  panel.hidden = false;
  panel.scrollTop = 0;
  for (const line of document.querySelectorAll("tr.here")) line.classList.remove("here");
  for (const link of document.querySelectorAll(`a.open[data-name="${place}"]`)) link.closest("tr")?.classList.add("here");
  heading.focus({ preventScroll: true });
}

/** Say why one spectrum of a pair is not there to lie over the other. */
function lacks(blocks, base, tuned) {
  const pair = blocks.find((block) => block.section.spectra.tuned);
  if (!pair) return null;
  const missing = base ? ["tuned"] : tuned ? ["base"] : ["base", "tuned"];
  const told = missing.map((part) => {
    const broken = blocks.find((block) => !block.profile && whoseOf(block.table).words === part && ["non-finite", "failed"].includes(block.table.value("status", block.row)));
    return broken ? `The ${part} matrix has no spectrum: it holds NaN or Inf, or could not be measured.`
      : `No spectrum of the ${part} model is in this page. Add the result of: ${pair.section.spectra[part]}`;
  });
  return el("p", { class: "without" }, told.join(" "));
}

/** Say whose spectra a table holds: the base's or the tuned model's of a pair on this page. */
function whoseOf(table) {
  for (const other of DATA.sections) {
    const whose = other.parts[table.section.of];
    if (whose === "base" || whose === "tuned") return { words: whose, look: whose };
  }
  return { words: table.section.model, look: "tuned" };
}

/** Return the matrices before and after one, in the order of the table that it was opened from. */
function sibling(place, section) {
  const tables = [...TABLES.values()].filter((table) => table.columns.has("matrix") && table.spec.caption === "Matrices");
  for (const table of [...tables.filter((one) => one.section.id === section), ...tables]) {
    const column = table.columns.get("matrix");
    const at = table.order.findIndex((row) => column.data[row] === place);
    if (at < 0) continue;
    const next = (row) => row === undefined ? null : column.data[row];
    return [next(table.order[at - 1]), next(table.order[at + 1])];
  }
  return [null, null];
}

const PLACE = new Set(["matrix", "role", "layer", "expert", "shape", "parameters", "dtype"]);

/** What one result says of the matrix. */
function blockOf(table, row, key) {
  const section = table.section, profile = profileOf(table, row);
  const told = (c) => (c.shown || section.tables.at(-1) === table.spec) && !PLACE.has(c.key) && !(c.key === "status" && table.value(c.key, row) === "ok");
  const values = table.spec.columns.filter((c) => told(c) && (table.value(c.key, row) !== null || c.kind === "singular" && table.singular(row)))
    .map((c) => ({ c, text: table.written(c.key, row) }))
    .map(({ c, text }) => el("div", { class: [c.key === key ? "asked" : "", String(text).length > LONG ? "long" : ""].join(" ").trim() || null }, el("dt", {}, c.title), el("dd", {}, text)));
  const model = table.value("model", row);
  const title = table.spec.caption === "Matrices" ? section.title : `${table.spec.caption}: ${section.model}`;
  const node = el("section", {}, el("h3", {}, el("a", { href: `#${section.id}` }, title), model === null ? "" : `, ${model}`),
    vectorsChart(section, table, row), el("dl", {}, values), ...tokensOf(table, row));
  const layer = table.value("layer", row), expert = table.value("expert", row), shape = table.value("shape", row);
  const place = shape === null ? null : [table.value("role", row), layer === null ? null : `layer ${layer}`, expert === null ? null : `expert ${expert}`,
    shape, table.value("dtype", row)].filter((word) => word !== null).join(" · ");
  return { node, profile, place, table, row, section };
}

/** What its directions read and write, in tokens: both ends of each. */
function tokensOf(table, row) {
  const told = table.spec.tokens?.[row] ?? [];
  if (!told.length) return [];
  return [el("h4", {}, "In tokens"), el("dl", { class: "tokens" }, told.map(([title, high, low]) =>
    el("div", { class: "long" }, el("dt", {}, title), el("dd", {}, high), low ? el("dd", {}, `↔ ${low}`) : "")))];
}

/** Close the panel and give focus back. */
function leave() {
  byId("inspector").hidden = true;
  for (const line of document.querySelectorAll("tr.here")) line.classList.remove("here");
  const back = invoker?.isConnected ? invoker : document.querySelector(`a.open[data-name="${opened}"]`);
  if (back) back.focus({ preventScroll: true });
}
