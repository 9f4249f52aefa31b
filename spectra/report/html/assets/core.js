"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** Return the name at a place of the page's list: a template whose holes are filled. */
function nameOf(place) {
  const [template, ...numbers] = DATA.names[place];
  if (typeof numbers[0] === "string") return numbers[0];
  let at = 0;
  return DATA.templates[template].replace(/#/g, () => numbers[at++]);
}

/** Make an element; texts become text alone, whatever they hold. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Write a number as spectra/numbers.py does, in four digits: 0.0123, 4.6, 10,890, 4.117e7. */
function few(value, digits = 4) {
  if (value === null || value === undefined) return "—";
  if (!isFinite(value)) return "∞";
  const rounded = Number(value.toPrecision(digits)), size = Math.abs(rounded);
  if (size && (size >= 1e6 || size < 1e-3)) return rounded.toExponential().replace("e+", "e");
  return size >= 1000 ? rounded.toLocaleString("en-US") : String(rounded);
}
function percent(share) {
  const told = few(100 * share, 3);
  return (told === "100" && share < 1 ? "99.9" : told) + " %";
}
const signed = (value) => (value < 0 && value <= -0.005 ? "-" : "+") + Math.abs(value).toFixed(2);
const whole = (value) => Math.round(value).toLocaleString("en-US");

/** Return a name that may break after its dots. */
const breaking = (name) => name.split(/(?<=\.)/).flatMap((part, i) => i ? [el("wbr"), part] : [part]);

/** Write a value as its kind asks. */
function shown(kind, value, singular = false) {
  if (kind === "flag") return value === null ? "—" : value ? "yes" : "no";
  if (kind === "singular" && value === null && singular) return "singular";
  if (value === null || value === undefined) return "—";
  if (kind === "whole") return whole(value);
  if (kind === "percent") return percent(value);
  if (kind === "slope") return signed(value);
  if (kind === "cosine") {
    const near = Number(value.toFixed(2));
    return String(Math.abs(near) === 1 && Math.abs(value) < 1 ? 0.99 * near : near);
  }
  return typeof value === "number" ? few(value) : value;
}

let waiting = 0;
/** Tell what changed to those who do not see it. */
function announce(text) {
  clearTimeout(waiting);
  waiting = setTimeout(() => { byId("live").textContent = text; }, 150);
}

/** Show a tooltip beside an element or a place on the page. */
function tip(text, box) {
  const node = byId("tip");
  if (!text) { node.hidden = true; return; }
  node.textContent = text;
  node.hidden = false;
  const size = node.getBoundingClientRect();
  const left = Math.min(Math.max(box.left + box.width / 2 - size.width / 2, 6), innerWidth - size.width - 6);
  const above = box.top - size.height - 8;
  node.style.left = left + scrollX + "px";
  node.style.top = (above > 4 ? above : box.bottom + 8) + scrollY + "px";
}

const RAMPS = Object.fromEntries(Object.entries(DATA.ramps).map(([name, stops]) =>
  [name, stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)))]));
/** Return red, green, blue of a share in [0, 1]: dark is bad, or where neither end is, much. */
function colour(share, ramp) {
  const stops = RAMPS[ramp], place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((c, i) => Math.round(c + (place - low) * (stops[low + 1][i] - c)));
}
/** Say which ink stands out on a colour. */
function inkOn([r, g, b]) {
  const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z > 0.179 ? "black" : "white";
}

/** Return ticks of a linear axis, at most about so many. */
function ticks(low, high, most = 5) {
  const span = high - low || 1;
  const step = 10 ** Math.floor(Math.log10(span / most));
  const size = [1, 2, 5, 10].map((m) => m * step).find((s) => span / s <= most) || step * 10;
  const found = [];
  for (let at = Math.ceil(low / size - 1e-9); at * size <= high + 1e-9 * span; at += 1) found.push(at * size);
  return found;
}
/** Return ticks of a logarithmic axis, given and returned as log10. */
function powers(low, high, most = 6) {
  const first = Math.ceil(low - 1e-9), last = Math.floor(high + 1e-9);
  if (last - first >= 1) {
    const step = Math.ceil((last - first + 1) / most), found = [];
    for (let at = first; at <= last; at += step) found.push(at);
    return found;
  }
  const found = [];
  for (let power = Math.floor(low); power <= high; power += 1)
    for (const digit of [1, 1.5, 2, 3, 4, 5, 6, 8]) {
      const at = power + Math.log10(digit);
      if (at >= low && at <= high) found.push(at);
    }
  return found.length > 1 ? found.filter((_, i) => i % Math.ceil(found.length / 4) === 0) : [low, high];
}
/** Draw both axes of a plot: a frame of left, top, right, bottom and its ticks. */
function axes(plot, xs, ys) {
  const { x, y, box } = plot, parts = [];
  for (const [at, text] of ys) {
    parts.push(svg("line", { class: "guide", x1: box[0], x2: box[2], y1: y(at), y2: y(at) }),
      svg("text", { class: "end", x: box[0] - 6, y: y(at) + 4 }, text));
  }
  for (const [at, text] of xs) parts.push(svg("text", { class: "mid", x: x(at), y: box[3] + 16 }, text));
  parts.push(svg("path", { class: "axis", d: `M${box[0]} ${box[3]}H${box[2]}` }));
  return parts;
}
/** Return a mark's outline: each series has another, so that colour is not all that tells it. */
function mark(kind, x, y, r = 4) {
  const shapes = [
    `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
    `M${x} ${y - 1.3 * r}L${x + 1.3 * r} ${y}L${x} ${y + 1.3 * r}L${x - 1.3 * r} ${y}z`,
    `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
    `M${x} ${y - 1.2 * r}L${x + 1.15 * r} ${y + r}H${x - 1.15 * r}z`,
    `M${x} ${y + 1.2 * r}L${x + 1.15 * r} ${y - r}H${x - 1.15 * r}z`,
    `M${x - r} ${y - r / 2.5}h${2 * r}v${r / 1.2}h${-2 * r}z`,
  ];
  return shapes[kind % shapes.length];
}
