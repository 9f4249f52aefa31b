byId("plain").remove();
const DRAW = { heatmap, intruders: intruderChart, cut: cutChart, width: widthChart, trend: trendChart, bars: barChart };

for (const section of DATA.sections) {
  const host = byId(section.id), tables = new Map();
  host.querySelectorAll("[data-table]").forEach((place) => {
    const spec = section.tables[Number(place.dataset.table)];
    tables.set(spec.id, new TableView(place, spec, section).rows);
  });
  host.querySelectorAll("[data-chart]").forEach((place) => {
    const chart = section.charts[Number(place.dataset.chart)];
    DRAW[chart.kind](place, chart, section, tables.get(chart.table));
  });
}

document.addEventListener("click", (event) => {
  const named = event.target.closest("[data-name]");
  if (named && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    inspect(Number(named.dataset.name), named, named.dataset.in ?? null);
    return;
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) copied(copy);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (!byId("tip").hidden) tip("");
  else if (!byId("inspector").hidden) { leave(); goTo("", true); }
});

/** Put a command on the clipboard; where that is not allowed, select it. */
async function copied(button) {
  const code = byId(button.dataset.copy);
  if (await copyText(code.textContent, button, "command")) return;
  getSelection().selectAllChildren(code);
  button.textContent = "Selected";
  announce("command selected");
}
/** Put a text on the clipboard and say so on its button; false where that is not allowed. */
async function copyText(text, button, what) {
  const before = button.textContent;
  const done = (word, said) => { button.textContent = word; announce(said); setTimeout(() => { button.textContent = before; }, 1600); };
  try { await navigator.clipboard.writeText(text); } catch {
    done(what === "link" ? "In the address bar" : "Selected", `the ${what} could not be copied`);
    return false;
  }
  done("Copied", `${what} copied`);
  return true;
}

const theme = byId("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
const label = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
theme.hidden = false;
/** What was chosen is kept for the next time, where the browser lets a page keep anything. */
const KEPT = "spectra-theme";
try { const kept = localStorage.getItem(KEPT); if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept; } catch { /* nothing is kept */ }
theme.addEventListener("click", () => {
  const chosen = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  try { localStorage.setItem(KEPT, chosen); } catch { /* it lasts as long as the page */ }
  label();
});
dark.addEventListener("change", label);
label();

/** On paper everything is open: details, and as many rows as paper bears. */
const paper = { folded: [], limits: new Map() };
function unfold() {
  if (paper.folded.length || paper.limits.size) return;
  paper.folded = [...document.querySelectorAll("details:not([open])")];
  for (const one of paper.folded) one.open = true;
  for (const rows of TABLES.values()) { paper.limits.set(rows, rows.limit); rows.limit = Math.max(PRINTED, rows.limit); rows.view.draw(false); }
}
function fold() {
  for (const one of paper.folded) one.open = false;
  for (const [rows, limit] of paper.limits) { rows.limit = limit; rows.view.draw(false); }
  paper.folded = [];
  paper.limits.clear();
}
/** A panel at the side begins under the heading, which stays, with all that can be clicked there. */
const heading = document.querySelector("header");
new ResizeObserver(() => document.documentElement.style.setProperty("--head", `${heading.offsetHeight}px`)).observe(heading);

/** What is drawn to fit is drawn again when the window's width changes. */
let width = innerWidth, settling = 0;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(settling);
  settling = setTimeout(() => { for (const draw of FITTED) draw(); }, 120);
});

addEventListener("beforeprint", unfold);
addEventListener("afterprint", fold);
matchMedia("print").addEventListener("change", (event) => (event.matches ? unfold : fold)());

for (const link of document.querySelectorAll("#worst a[data-name]")) link.setAttribute("href", addressOf(Number(link.dataset.name), link.dataset.in));
addEventListener("hashchange", follow);
addEventListener("popstate", follow);
if (location.hash) follow();
