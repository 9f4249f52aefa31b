/** Draw cells as a grid that arrows walk through: labels, values, what a cell says and opens. */
function drawGrid(spec) {
  const { rows, columns, left, cellWidth, cellHeight } = spec;
  const top = 20, width = left + columns.length * cellWidth + 4, height = top + rows.length * cellHeight + 4;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "grid", "aria-label": spec.label,
    "aria-rowcount": rows.length + 1, "aria-colcount": columns.length + 1 });
  const hatch = `h${Math.random().toString(36).slice(2)}`;
  if (spec.hatched) picture.append(svg("defs", {}, hatching(hatch)));
  const every = Math.ceil(columns.length * 22 / Math.max(columns.length * cellWidth, 1));
  picture.append(svg("g", { role: "row" }, svg("g", { role: "columnheader" }, svg("text", { class: "end", x: left - 8, y: 13 }, spec.corner)),
    columns.map((name, c) => svg("g", { role: "columnheader", "aria-label": `${spec.across} ${name}` },
      svg("text", { class: "mid", x: left + (c + 0.5) * cellWidth, y: 13, "fill-opacity": c % every === 0 || name.length > 3 ? null : 0 }, name)))));
  const content = rows.map((_, r) => columns.map((_, c) => spec.cell(r, c)));
  const longest = Math.max(...content.flat().map((cell) => cell?.text?.length ?? 0));
  const fits = longest * 6.4 + 6 < cellWidth;  // some numbers and some gaps would mislead
  const cells = rows.map((name, r) => {
    const y = top + r * cellHeight;
    const line = svg("g", { role: "row" }, svg("g", { role: "rowheader", "aria-label": name },
      svg("text", { class: spec.mono ? "end name" : "end ink", x: left - 8, y: y + cellHeight / 2 + 4 }, spec.rowText ? spec.rowText(name, r) : name)));
    picture.append(line);
    return columns.map((_, c) => {
      const cell = content[r][c];
      if (!cell) return null;
      const x = left + c * cellWidth;
      const box = svg("rect", { class: cell.fill ? "box" : "box hole", x, y, width: cellWidth, height: cellHeight, rx: 3, fill: cell.broken ? `url(#${hatch})` : cell.fill });
      const node = svg("g", { role: "gridcell", tabindex: "-1", "aria-label": cell.said, "data-row": r, "data-column": c }, box);
      if (cell.text && (fits || /^[∞–]$/.test(cell.text)))
        node.append(svg("text", { class: `cell mid ${cell.ink}`, x: x + cellWidth / 2, y: y + cellHeight / 2 + 4 }, cell.text));
      if (cell.ring) for (const name of ["worstring under", "worstring"])
        node.append(svg("rect", { class: name, x: x + 2.5, y: y + 2.5, width: cellWidth - 5, height: cellHeight - 5, rx: 2 }));
      if (cell.cross) {
        const m = Math.min(cellWidth, cellHeight) / 4, cx = x + cellWidth / 2, cy = y + cellHeight / 2;
        const d = `M${cx - m} ${cy - m}L${cx + m} ${cy + m}M${cx - m} ${cy + m}L${cx + m} ${cy - m}`;
        node.append(svg("path", { class: "cross under", d }), svg("path", { class: "cross", d }));
      }
      line.append(node);
      node.said = cell.said;
      node.tip = cell.tip;
      node.opens = cell.opens;
      return node;
    });
  });
  walk(picture, cells);
  return picture;
}

/** Let arrows, Home and End move through cells, Enter and a click open them. */
function walk(picture, cells) {
  const flat = cells.flat().filter(Boolean);
  if (flat[0]) flat[0].setAttribute("tabindex", "0");
  const cellOf = (event) => event.target.closest('[role="gridcell"]');
  const tell = (cell) => tip(cell.tip ?? cell.said, cell.firstChild.getBoundingClientRect());
  const go = (cell) => {
    for (const other of flat) other.setAttribute("tabindex", other === cell ? "0" : "-1");
    cell.focus();
  };
  picture.addEventListener("pointerover", (event) => { const cell = cellOf(event); if (cell) tell(cell); else tip(""); });
  picture.addEventListener("pointerleave", () => tip(""));
  picture.addEventListener("focusin", (event) => { const cell = cellOf(event); if (cell?.matches(":focus-visible")) tell(cell); });
  picture.addEventListener("focusout", () => tip(""));
  picture.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) { go(cell); tip(""); cell.opens?.(cell); } });
  picture.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); tip(""); cell.opens?.(cell); return; }
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0], Home: [0, -Infinity], End: [0, Infinity] }[event.key];
    if (!step) return;
    event.preventDefault();
    let r = Number(cell.dataset.row), c = Number(cell.dataset.column);
    if (!isFinite(step[1])) { const line = cells[r].filter(Boolean); go(step[1] < 0 ? line[0] : line.at(-1)); return; }
    do { r += step[0]; c += step[1]; } while (cells[r] && c >= 0 && c < cells[r].length && !cells[r][c]);
    if (cells[r]?.[c]) go(cells[r][c]);
  });
}

/** Return a share in [0, 1] of a value between ends. */
function scaled(scale, values) {
  const finite = values.filter((value) => typeof value === "number" && (scale !== "log" || value > 0));
  let low = Math.min(...finite), high = Math.max(...finite);
  if (scale === "count") low = 0;
  if (scale === "signed") { high = Math.max(high, -low) || 1; low = -high; }
  const bend = scale === "log" ? Math.log10 : (value) => value;
  const span = bend(high) - bend(low) || 1;
  return { low, high, any: finite.length > 0, share: (value) => scale === "log" && value <= 0 ? 0 : (bend(value) - bend(low)) / span };
}

/** The pattern of what has no numbers: no shade of any scale. */
function hatching(id) {
  const [ground, line] = [RAMPS.bad.at(-1), RAMPS.bad.at(-2)].map((rgb) => `rgb(${rgb})`);
  return svg("pattern", { id, width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    svg("rect", { width: 7, height: 7, fill: ground }), svg("rect", { width: 2.5, height: 7, fill: line }));
}

/** Draw the scale of colours, from one end to the other, as they are called. */
function legend(ends, notes, shades) {
  const id = `g${Math.random().toString(36).slice(2)}`;
  const stops = shades.map((c, i) => svg("stop", { offset: i / (shades.length - 1), "stop-color": `rgb(${c})` }));
  const bar = svg("svg", { width: 160, height: 12, "aria-hidden": "true" }, svg("defs", {}, svg("linearGradient", { id }, stops)),
    svg("rect", { width: 160, height: 12, rx: 3, fill: `url(#${id})` }));
  return el("div", { class: "legend" }, ends ? el("span", {}, ends[0], bar, ends[1]) : null,
    notes.map((note) => el("span", {}, note)));
}

const FITTED = [];

/** A heatmap by layer and role, with a choice of what it shows. */
function heatmap(host, chart, section, table) {
  let metric = 0, facet = chart.facets.length - 1;
  const body = el("div", {});
  const choice = (label, names, chosen, change) => names.length < 2 ? null : el("label", {}, label,
    el("select", { onchange: (event) => { change(Number(event.target.value)); draw(); } },
      names.map((name, i) => el("option", { value: i, selected: i === chosen }, name))));
  const draw = () => {
    const about = chart.metrics[metric], { name, counts, grids, shades } = chart.facets[facet];
    const values = grids[metric], range = scaled(about.scale, values), n = chart.layers.length;
    const upward = (value) => about.worst === "low" ? 1 - range.share(value) : range.share(value);
    // How bad a number is, rules say; an amount stands between the least and the most there are.
    const share = (value, i) => shades[metric] ? shades[metric][i] : upward(value);
    const layers = chart.layers.map((layer) => layer === null ? "none" : String(layer));
    const room = Math.max(body.clientWidth || 1080, 300);
    const left = 84, cellWidth = Math.min(Math.max((room - left - 12) / n, 15), 74);
    const sign = about.worst === "low" ? 1 : -1;
    const ranked = values.map((value, i) => [value === "inf" ? Infinity : value, i]).filter(([value]) => typeof value === "number")
      .sort((a, b) => sign * (a[0] - b[0]));
    const tied = ranked.length > 4 ? ranked[3][0] : ranked[0]?.[0];  // of equals none stands out
    const worst = new Set(ranked.slice(0, 3).filter(([v]) => v !== tied).map(([, i]) => i));
    const cell = (r, c) => {
      const i = r * n + c, value = values[i], count = counts[i];
      if (!count) return null;
      const where = `${chart.roles[r]}, ${layers[c] === "none" ? "no layer" : "layer " + layers[c]}`;
      const text = value === null ? "–" : value === "inf" ? "∞" : value === "nan" ? "NaN" : shown(about.kind, value);
      const told = value === "inf" ? "singular" : value === "nan" ? "no numbers, such as of NaN or Inf" : value === null ? (chart.outside ? "not followed further: it lies above the cut" : "no such value") : `${about.title} ${text}`;
      const many = count > 1 ? ` (${about.key === "findings" ? "sum over" : "median of"} ${whole(count)} ${chart.many})` : "";
      // A line of a grid by head is one matrix, of which all is told at once.
      const others = chart.by === "role" || count > 1 ? [] : chart.metrics.map((m, at) => [m, grids[at][i]])
        .filter(([m, other]) => m !== about && typeof other === "number").map(([m, other]) => `${m.title} ${shown(m.kind, other)}`);
      const dark = value === "inf" || value === "nan";
      const rgb = dark ? colour(1, "bad") : typeof value === "number" ? colour(share(value, i) ?? 0, about.ramp) : null;
      return { fill: rgb && `rgb(${rgb})`, broken: value === "nan", ink: rgb ? inkOn(rgb) : "ink", text, ring: worst.has(i), said: `${where}\n${told}${many}`,
        tip: [where, `${told}${many}`, ...others].join("\n"),
        opens: (node) => openCell(table, chart.by, chart.lines[r], chart.roles[r], chart.layers[c], chart.facets.length > 1 ? name : null, node, about.key) };
    };
    const notes = [about.meaning && `${about.title}: ${about.meaning}`, worst.size && `outlined: the ${about.worst === "low" ? "lowest" : "highest"}`,
      values.includes("inf") && "∞: singular", values.includes("nan") && "hatched: no numbers, such as of NaN or Inf",
      chart.outside && values.includes(null) ? "–: above the cut, not followed further"
        : values.some((value, i) => value === null && counts[i]) && "–: has no such value"].filter(Boolean);
    const ends = about.ends ?? (range.any ? [range.low, range.high].map((end) => shown(about.kind, end)) : null);
    const stops = about.worst === "low" && !about.ends ? [...RAMPS[about.ramp]].reverse() : RAMPS[about.ramp];
    body.replaceChildren(el("div", { class: "wide" }, drawGrid({ rows: chart.roles, columns: layers, left, cellWidth, cellHeight: 27, cell, hatched: values.includes("nan"),
      label: `${about.title} by ${chart.by} and layer`, corner: chart.by, across: "layer" })), legend(ends, notes, stops));
  };
  const metrics = chart.metrics.map((m) => m.title);
  host.replaceChildren(el("div", { class: "tools" }, el("h3", {}, `By layer and ${chart.by}`),
    choice("Colour by", metrics, metric, (i) => { metric = i; }),
    choice("Model", chart.facets.map((f) => f.name ?? ""), facet, (i) => { facet = i; })), body);
  FITTED.push(draw);
  draw();
}

/** Open the matrix of a cell; where several share it, list them. */
function openCell(table, by, line, name, layer, model, node, key) {
  const found = [];
  for (let row = 0; row < table.spec.rows; row += 1)
    if (table.value(by, row) === line && table.value("layer", row) === layer && (model === null || table.value("model", row) === model))
      found.push(row);
  if (found.length === 1) { inspect(table.columns.get("matrix").data[found[0]], node, table.section.id, key); return; }
  const words = `${name}, ${layer === null ? "no layer" : "layer " + layer}${model === null ? "" : ", " + model}`;
  table.view.only({ [by]: String(line), layer: String(layer), ...(model === null ? {} : { model }) }, words);
}
