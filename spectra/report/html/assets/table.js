const TABLES = new Map();
const FIRST = 25, MORE = 200, PRINTED = 1000;
const RANK = { error: 0, warning: 1, note: 2, known: 3, "not judged": 4, passed: 5 };
const MARKS = { error: "✕", warning: "▲", note: "●", passed: "✓", known: "○", "not judged": "–" };
const ONE = { matrices: "matrix", heads: "head", groups: "group", tensors: "tensor", findings: "finding", "ignored findings": "ignored finding", "skipped tensors": "skipped tensor", rules: "rule", roles: "role", moves: "move", quantities: "quantity" };
const LOW_FIRST = new Set(["name", "word", "text", "severity"]);

/** Rows of one table: values, sorting, filtering; a window of them is in the page. */
class Rows {
  constructor(spec, section) {
    this.spec = spec;
    this.section = section;
    this.columns = new Map(spec.columns.map((column) => [column.key, column]));
    this.filters = {};
    this.where = {};
    this.text = "";
    this.limit = FIRST;
    this.sorted = { key: null, down: false };
    this.all = Array.from({ length: spec.rows }, (_, row) => row);
    this.order = this.all;
    TABLES.set(spec.id, this);
  }
  value(key, row) {
    const column = this.columns.get(key);
    if (!column) return null;
    const found = column.data[row];
    if (column.kind === "name") return found < 0 ? null : nameOf(found);
    if (column.words) return found < 0 ? null : column.words[found];
    return found;
  }
  singular(row) { return this.value("status", row) === "singular"; }
  /** Return what kappa is proven to lie above, where it was followed no further. */
  above(column, row) {
    return column.kind === "singular" && this.value("status", row) === "outside" ? this.value("kappa_low", row) : null;
  }
  written(key, row) {
    const low = this.value(key, row) === null ? this.above(this.columns.get(key), row) : null;
    if (low !== null) return `> ${few(low)}`;
    return shown(this.columns.get(key).kind, this.value(key, row), this.singular(row));
  }
  /** Return what a row is sorted by; what has none comes last whatever the direction. */
  rank(column, row) {
    const value = this.value(column.key, row);
    if (column.kind === "singular" && value === null && this.singular(row)) return Infinity;
    if (value === null && this.above(column, row) !== null) return this.above(column, row);
    if (column.kind === "severity") return RANK[value] ?? 6;
    if (column.kind === "shape") return value.split(" × ").reduce((a, b) => a * b, 1);
    return value;
  }
  sort(key, down) {
    const column = this.columns.get(key);
    if (!column) return;
    this.sorted = { key, down };
    const ranks = Array.from({ length: this.spec.rows }, (_, row) => this.rank(column, row));
    const all = Array.from(ranks, (_, row) => row);
    const text = column.kind === "name" || column.kind === "word" || column.kind === "text";
    const compare = text ? new Intl.Collator("en", { numeric: true }).compare : (a, b) => a - b;
    all.sort((a, b) => {
      const left = ranks[a], right = ranks[b];
      if (left === null || right === null) return (left === null) - (right === null) || a - b;
      if (left === right) return a - b;
      return (down ? -1 : 1) * compare(left, right) || a - b;
    });
    this.all = all;
    this.filter();
  }
  filter() {
    const words = this.text.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = this.spec.columns.filter((c) => c.shown && (LOW_FIRST.has(c.kind) || c.kind === "shape"));
    const wanted = Object.entries({ ...this.filters, ...this.where });
    this.order = this.all.filter((row) => {
      for (const [key, value] of wanted) if (String(this.value(key, row)) !== value) return false;
      if (!words.length) return true;
      const line = texts.map((c) => this.value(c.key, row) ?? "").join(" ").toLowerCase();
      return words.every((word) => line.includes(word));
    });
    return this.order;
  }
}

/** The table itself: a toolbar, sortable headings, and rows in windows. */
class TableView {
  constructor(host, spec, section) {
    this.rows = new Rows(spec, section);
    this.host = host;
    this.spec = spec;
    this.visible = spec.columns.filter((column) => column.shown);
    this.body = el("tbody");
    this.heads = new Map();
    const numbers = (column) => !LOW_FIRST.has(column.kind) && column.kind !== "flag" && column.kind !== "shape";
    this.numbers = numbers;
    const head = el("tr", {}, this.visible.map((column) => {
      const button = el("button", { type: "button", onclick: () => this.turn(column) },
        column.title, el("span", { class: "arrow", "aria-hidden": "true" }, ""));
      const cell = el("th", { scope: "col", class: numbers(column) ? "number" : null }, button);
      this.heads.set(column.key, cell);
      return cell;
    }));
    this.caption = el("caption", {});
    this.more = el("div", { class: "onward" });
    const frame = el("div", { class: "frame", tabindex: "0", role: "region", "aria-label": `${spec.caption}, ${section.title}` },
      el("table", {}, this.caption, el("thead", {}, head), this.body));
    host.replaceChildren(this.toolbar(), frame, this.more);
    const [key, down] = spec.first;
    if (key && this.heads.has(key)) this.mark(key, down);
    this.rows.view = this;
    this.draw(false);
  }
  toolbar() {
    const name = this.spec.caption.toLowerCase();
    this.search = el("input", { type: "search", autocomplete: "off", spellcheck: "false", oninput: () => {
      this.rows.text = this.search.value;
      this.changed();
    } });
    this.selects = this.spec.filters.map((key) => {
      const column = this.rows.columns.get(key);
      const choices = column.words || ["1", "0"];
      const collator = new Intl.Collator("en", { numeric: true });
      const select = el("select", { "data-key": key, onchange: () => {
        if (select.value) this.rows.filters[key] = select.value; else delete this.rows.filters[key];
        this.changed();
      } }, el("option", { value: "" }, "all"), [...choices].sort(collator.compare).map((word) =>
        el("option", { value: word }, column.words ? word : word === "1" ? "yes" : "no")));
      return el("label", {}, column.title, select);
    });
    this.chips = el("span", {});
    const save = el("button", { type: "button", class: "csv", title: "as it is filtered and sorted, every column", onclick: () => this.save() },
      "CSV", el("span", { class: "quiet" }, ` of ${name}`));
    return el("div", { class: "tools" }, el("h3", {}, this.spec.caption), this.chips, save,
      ...(this.spec.rows > 8 ? [el("label", {}, `Filter ${name}`, this.search), ...this.selects] : []));
  }
  /** Save what is shown, and of it every column, under the keys that files use. */
  save() {
    const { rows, spec } = this, quoted = (text) => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const raw = (column, row) => {
      const value = rows.value(column.key, row);
      if (value === null || value === undefined) return "";
      if (column.kind === "flag") return value ? "true" : "false";
      return quoted(String(value));
    };
    const lines = [spec.columns.map((column) => quoted(column.key)).join(","),
      ...rows.order.map((row) => spec.columns.map((column) => raw(column, row)).join(","))];
    const address = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    const link = el("a", { href: address, download: `${rows.section.file}-${spec.caption.toLowerCase().replaceAll(" ", "-")}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    announce(`${whole(rows.order.length)} rows saved as CSV`);
  }
  /** Show one cell of a heatmap: its role and layer. */
  only(where, words) {
    this.rows.where = where;
    const clear = el("button", { type: "button", class: "chip", onclick: () => {
      this.rows.where = {};
      this.chips.replaceChildren();
      this.changed();
      this.search.focus();
    } }, words, el("span", { "aria-hidden": "true" }, " ×"), el("span", { class: "quiet" }, ", show all again"));
    this.chips.replaceChildren(clear);
    this.changed();
    clear.focus();
    this.host.scrollIntoView({ block: "nearest" });
  }
  changed() {
    this.rows.limit = FIRST;
    this.rows.filter();
    this.draw(true);
  }
  turn(column) {
    const { key, down } = this.rows.sorted;
    const first = this.numbers(column) || column.kind === "flag" || column.kind === "shape";
    const next = key === column.key ? !down : first;
    this.rows.sort(column.key, next);
    this.mark(column.key, next);
    this.draw(false);
    announce(`sorted by ${column.title}, ${next ? "highest first" : "lowest first"}`);
  }
  mark(key, down) {
    this.rows.sorted = { key, down };
    for (const [name, cell] of this.heads) {
      const here = name === key;
      if (here) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      cell.querySelector(".arrow").textContent = here ? (down ? "▼" : "▲") : "";
    }
  }
  draw(told) {
    const { order, limit, spec } = this.rows;
    const drawn = order.slice(0, limit);
    this.body.replaceChildren(...drawn.map((row) => this.line(row)));
    const name = spec.caption.toLowerCase();
    const counts = order.length === spec.rows ? `${whole(spec.rows)} ${spec.rows === 1 ? ONE[name] || name : name}` : `${whole(order.length)} of ${whole(spec.rows)} ${name}`;
    const left = spec.left ? `; ${whole(spec.left)} more are in the file alone` : "";
    this.caption.textContent = counts + left;
    const frame = this.body.closest(".frame"), stays = this.heads.values().next().value;
    frame.style.scrollPaddingLeft = `${stays.offsetWidth}px`;
    if (told) announce(counts);
    const rest = order.length - drawn.length;
    this.more.replaceChildren(...(rest > 0 ? [
      el("button", { type: "button", onclick: () => this.extend(MORE) }, `Show ${whole(Math.min(rest, MORE))} more`),
      el("span", {}, `${whole(rest)} not shown`)] : []));
  }
  extend(by) {
    const { order, limit } = this.rows;
    this.rows.limit = limit + by;
    this.draw(false);
    const next = this.body.rows[limit]?.querySelector(".open");
    if (next) next.focus();
    announce(`${whole(Math.min(order.length, limit + by))} rows shown`);
  }
  line(row) {
    return el("tr", { "data-row": row }, this.visible.map((column, place) => this.cell(column, row, place === 0)));
  }
  /** Return how a severity looks: what the baseline has too, is gone or accepted is no fault of this release. */
  look(row, text) {
    const state = this.rows.value("state", row);
    if (state === "gone") return "passed";
    return state === "unchanged" || this.spec.accepted ? "known" : text;
  }
  cell(column, row, heading) {
    const { kind, key } = column;
    const text = this.rows.written(key, row);
    const content = [];
    if (kind === "name" && text !== "—") {
      const place = column.data[row];
      content.push(el("a", { class: "open", href: addressOf(place, this.rows.section.id), "data-name": place, "data-in": this.rows.section.id }, breaking(text)));
    } else if (kind === "severity" && text !== "—") {
      const look = this.look(row, text);
      content.push(el("span", { class: `badge ${look.replaceAll(" ", "-")}` }, el("span", { "aria-hidden": "true" }, `${MARKS[look] || "●"} `), text));
    } else content.push(text);
    if (heading) return el("th", { scope: "row" }, content);
    return el("td", { class: this.numbers(column) ? "number" : kind === "text" ? "long" : "word" }, content);
  }
}
