/** Let a pointer or the arrows step through points of a picture; Enter opens one. */
function probe(picture, points, said, open) {
  if (!points.length) return picture;
  const ring = svg("circle", { class: "probe", r: 7, visibility: "hidden" });
  picture.append(ring);
  picture.setAttribute("tabindex", "0");
  let at = -1;
  const go = (index, told) => {
    at = Math.min(Math.max(index, 0), points.length - 1);
    const { x, y } = points[at];
    ring.setAttribute("cx", x); ring.setAttribute("cy", y); ring.setAttribute("visibility", "visible");
    tip(said(points[at]), ring.getBoundingClientRect());
    if (told) announce(said(points[at]));
  };
  const away = () => { ring.setAttribute("visibility", "hidden"); tip(""); };
  const nearest = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    let best = -1, least = 900;
    points.forEach((p, i) => { const d = (p.x - place.x) ** 2 + (p.y - place.y) ** 2; if (d < least) { least = d; best = i; } });
    return best;
  };
  picture.addEventListener("pointermove", (event) => { const i = nearest(event); if (i < 0) away(); else go(i, false); });
  picture.addEventListener("pointerleave", away);
  picture.addEventListener("blur", away);
  picture.addEventListener("click", (event) => { const i = nearest(event); if (i >= 0 && open) { away(); open(points[i], picture); } });
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (step) { event.preventDefault(); go(at + step, true); }
    else if (event.key === "Enter" && at >= 0 && open) { event.preventDefault(); open(points[at], picture); }
    else if (event.key === "Escape") away();
  });
  return picture;
}

/** Every condition number, lowest first, and where the selection cuts. */
function cutChart(host, chart, section, table) {
  const found = [];
  for (let row = 0; row < table.spec.rows; row += 1) {
    const value = table.value(chart.key, row);
    if (value !== null && value > 0) found.push({ row, value, selected: table.value("selected", row) === 1 });
  }
  found.sort((a, b) => a.value - b.value);
  if (!found.length) { host.replaceChildren(el("p", {}, "No condition number is known.")); return; }
  const body = el("div", { class: "wide" });
  const draw = () => {
  const width = Math.min(Math.max(body.clientWidth || 1080, 280), 1190), narrow = width < 640;
  const height = narrow ? 260 : 290, box = [narrow ? 58 : 64, 14, width - (narrow ? 6 : 16), height - 40];
  const logs = found.map((one) => Math.log10(one.value));
  const pad = (logs.at(-1) - logs[0]) * 0.06 || 0.5, low = logs[0] - pad, high = logs.at(-1) + pad;
  const x = (i) => box[0] + 12 + (i + 0.5) / found.length * (box[2] - box[0] - 24);
  const y = (log) => box[3] - (log - low) / (high - low) * (box[3] - box[1]);
  const title = chart.key === "kappa" ? "κ" : "κ excess";
  const points = found.map((one, i) => ({ ...one, x: x(i), y: y(logs[i]), rank: i + 1 }));
  const r = found.length * 9 > 6 * width ? 2 : found.length * 9 > width ? 3 : 4.2;
  const path = (chosen, shape) => points.filter((p) => p.selected === chosen).map((p) => mark(shape, p.x, p.y, r)).join("");
  const label = `${title} of ${whole(found.length)} matrices, lowest first` + (chart.cut === null ? "" : `, cut at ${few(chart.cut)}`) + ". Arrows step through them, Enter opens one.";
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label },
    axes({ x: (i) => x(i - 1), y, box }, ticks(1, found.length, narrow ? 4 : 8).filter((t) => t >= 1 && Number.isInteger(t)).map((t) => [t, whole(t)]), powers(low, high).map((p) => [p, few(10 ** p, 2)])),
    svg("text", { class: "ink", x: 4, y: 11 }, title), svg("text", { class: "end", x: box[2], y: height - 6 }, "rank, lowest first"),
    svg("path", { class: "rings", d: path(false, 0) }), svg("path", { class: "dots", d: path(true, 1) }));
  if (chart.cut !== null) {
    const line = y(Math.log10(chart.cut));
    picture.append(svg("line", { class: "cutline", x1: box[0], x2: box[2], y1: line, y2: line }),
      svg("text", { class: "end ink", x: box[2], y: line - 6 }, `cut at ${few(chart.cut)}`));
  }
  probe(picture, points, (p) => `${table.value("matrix", p.row)}\n${title} ${few(p.value)}, ${whole(p.rank)} of ${whole(found.length)}${p.selected ? ", selected" : ""}`,
    (p, node) => inspect(table.columns.get("matrix").data[p.row], node, section.id, chart.key));
  body.replaceChildren(picture);
  };
  const sample = (name, shape, words) => el("span", {}, svg("svg", { width: 14, height: 14, "aria-hidden": "true" }, svg("path", { class: name, d: mark(shape, 7, 7, 4.2) })), words);
  host.replaceChildren(el("div", { class: "tools" }, el("h3", {}, chart.selected ? "The ranking and its cut" : "The ranking")), body,
    el("div", { class: "legend" }, chart.selected ? sample("dots", 1, `selected (${whole(chart.selected)})`) : null, sample("rings", 0, chart.selected ? "not selected" : "matrices"),
      chart.outside ? el("span", {}, `${whole(chart.outside)} more lie above the cut and were not followed further`) : null));
  FITTED.push(draw);
  draw();
}

/** Read a row's vectors: index, |cos|, its error, best match, marks. */
function vectorsOf(table, row) {
  const flat = table.spec.verdicts?.[row];
  if (!flat) return [];
  const found = [];
  for (let i = 0; i < flat.length; i += 5)
    found.push({ index: flat[i], cos: flat[i + 1] < 0 ? null : flat[i + 1] / 1e4, error: flat[i + 2] / 1e4,
      match: flat[i + 3] < 0 ? null : flat[i + 3], intruder: !!(flat[i + 4] & 1), tied: !!(flat[i + 4] & 2) });
  return found;
}

/** Leading vectors by matrix, worst first: how well the best vector of the base resembles each. */
function intruderChart(host, chart, section, table) {
  const rows = [];
  for (let row = 0; row < table.spec.rows; row += 1) if (vectorsOf(table, row).length) rows.push(row);
  const columns = Math.max(...rows.map((row) => Math.max(...vectorsOf(table, row).map((v) => v.index)))) + 1;
  let limit = 15;
  const body = el("div", {}), onward = el("div", { class: "onward" });
  const draw = () => {
    const shownRows = rows.slice(0, limit), names = shownRows.map((row) => table.value("matrix", row));
    const room = Math.max(body.clientWidth || 1080, 300), narrow = room < 640;
    const longest = Math.max(...names.map((name) => name.length)) * 7 + 16;
    const left = narrow ? 100 : Math.min(340, longest), keep = Math.floor((left - 16) / 7);
    const cellWidth = Math.min(Math.max((room - left - 12) / columns, 20), 62);
    const cut = (name) => name.length > keep ? "…" + name.slice(1 - keep) : name;
    const brief = shownRows.map((row) => [table.value("layer", row), table.value("role", row)].filter((v) => v !== null).join(" · "));
    const vectors = shownRows.map((row) => new Map(vectorsOf(table, row).map((v) => [v.index, v])));
    const cell = (r, c) => {
      const v = vectors[r].get(c);
      if (!v) return null;
      const rgb = v.cos === null ? null : colour(1 - v.cos, "bad");
      const best = v.match === null ? "" : `, best match: vector ${v.match} of the base`;
      const said = `${names[r]}\nvector ${c}: largest |cos| ${v.cos === null ? "unknown" : few(v.cos, 3)}${best}${v.intruder ? ". An intruder" : ""}${v.tied ? ". Not determined: singular values coincide" : ""}`;
      return { fill: rgb && `rgb(${rgb})`, ink: rgb ? inkOn(rgb) : "ink", text: v.cos === null || v.intruder ? "" : v.cos.toFixed(2), cross: v.intruder, said,
        opens: (node) => inspect(table.columns.get("matrix").data[shownRows[r]], node, section.id, "intruders") };
    };
    body.replaceChildren(el("div", { class: "wide" }, drawGrid({ rows: names, columns: Array.from({ length: columns }, (_, i) => String(i)), left, cellWidth, cellHeight: 24,
      cell, mono: true, rowText: narrow ? (_, r) => brief[r] : cut, label: "largest |cos| of each leading vector with any of the base, worst matrices first", corner: "matrix", across: "vector" })),
      legend(["1", "0"], [`×: an intruder, |cos| below ${few(chart.epsilon)}`,
        chart.chance && `by chance ${chart.chance}`,
        `columns: index of ${chart.side} singular vector, tuned`, "dark red: resembles nothing of the base"].filter(Boolean), RAMPS.bad));
    const rest = rows.length - shownRows.length;
    onward.replaceChildren(...(rest > 0 ? [el("button", { type: "button", onclick: () => { limit += 40; draw(); } }, `Show ${Math.min(rest, 40)} more`), el("span", {}, `${whole(rest)} matrices not drawn`)] : []));
  };
  host.replaceChildren(el("div", { class: "tools" }, el("h3", {}, "Intruder dimensions")), body, onward);
  FITTED.push(draw);
  draw();
}

/** A bar of a share of its room. */
function stick(share) {
  const node = el("div", { class: "stick", "aria-hidden": "true" });
  node.style.width = `${100 * share}%`;
  return node;
}

/** Amounts as bars. */
function barChart(host, chart) {
  const most = Math.max(...chart.items.map(([, value]) => value), 1);
  const total = chart.items.reduce((sum, [, value]) => sum + value, 0) || 1;
  host.replaceChildren(el("div", { class: "tools" }, el("h3", {}, chart.title)), el("div", { class: "bars" },
    chart.items.map(([name, value]) => [el("span", {}, name),
      stick(value / most),
      el("span", { class: "amount" }, `${whole(value)} (${percent(value / total)})`)])));
}
