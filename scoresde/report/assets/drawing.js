"use strict";

// What charts are made of: shapes, numbers as text, scales and their ticks.

const SVG_NAMES = "http://www.w3.org/2000/svg";

function svg(name, attributes, parent, text) {
  const made = document.createElementNS(SVG_NAMES, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// Outlines of radius 1: corners on a circle, every second one pulled in to `inner` for stars and crosses.
function polygon(corners, turn, inner = 1) {
  const count = inner === 1 ? corners : 2 * corners;
  return Array.from({ length: count }, (_, index) => {
    const angle = turn + (2 * Math.PI * index) / count;
    const radius = index % 2 && inner !== 1 ? inner : 1;
    return [radius * Math.sin(angle), -radius * Math.cos(angle)];
  });
}

const PLUS = [[-0.35, -1], [0.35, -1], [0.35, -0.35], [1, -0.35], [1, 0.35], [0.35, 0.35], [0.35, 1], [-0.35, 1],
  [-0.35, 0.35], [-1, 0.35], [-1, -0.35], [-0.35, -0.35]];
const TURNED = PLUS.map(([x, y]) => [(x - y) * Math.SQRT1_2, (x + y) * Math.SQRT1_2]);
const OUTLINES = [polygon(24, 0), polygon(4, Math.PI / 4), polygon(4, 0), polygon(3, 0), polygon(3, Math.PI), PLUS,
  TURNED, polygon(5, 0, 0.45), polygon(5, 0), polygon(6, 0), polygon(3, -Math.PI / 2)];

function markerPath(marker, x, y, size) {
  const corners = OUTLINES[marker].map(([u, v]) => `${(x + size * u).toFixed(2)},${(y + size * v).toFixed(2)}`);
  return `M${corners.join("L")}Z`;
}

// A curve as a legend shows it, at this height.
function swatch(parent, curve, y, size, joined) {
  if (joined) svg("line", { x1: 0, x2: 30, y1: y, y2: y, class: "line", "stroke-dasharray": curve.dash.join(" ") }, parent);
  svg("path", { d: markerPath(curve.marker, 15, y, size), class: "point" }, parent);
}

function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e6 || size < 1e-4 ? value.toExponential(5) : String(Number(value.toPrecision(6)));
}

function shown(metric, value) {
  return metric.percent ? `${number(100 * value)} %` : number(value);
}

function estimate(metric, [value, low, high]) {
  const ends = low === null || high === null ? "" : ` [${shown(metric, low)}, ${shown(metric, high)}]`;
  return shown(metric, value) + ends;
}

function tickText(value) {
  const rounded = Number(value.toPrecision(4));
  const size = Math.abs(rounded);
  return size >= 1e5 || (size > 0 && size < 1e-3) ? rounded.toExponential().replace("e+", "e") : String(rounded);
}

function linearTicks(low, high, most) {
  const raw = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * unit).find((size) => size >= raw);
  const ticks = [];
  for (let index = Math.ceil(low / step); index * step <= high; index++) ticks.push(index * step);
  return ticks;
}

// The finest division of the decades that has no more than `most` ticks.
function logTicks(low, high, most) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const divide = (mantissas, every) => {
    const ticks = [];
    for (let power = Math.ceil(first / every) * every; power <= last; power += every)
      for (const mantissa of mantissas) ticks.push(mantissa * 10 ** power);
    return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  };
  if (high / low < 3) return linearTicks(low, high, most);
  for (const mantissas of [[1, 1.5, 2, 3, 4, 5, 7], [1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3]]) {
    const ticks = divide(mantissas, 1);
    if (ticks.length <= most) return ticks;
  }
  let every = 1;
  while (divide([1], every).length > most) every += 1;
  return divide([1], every);
}

function scale(values, log, from, to, padding) {
  const move = log ? Math.log10 : (value) => value;
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = log ? [low / 1.5, high * 1.5] : [low - 0.5, high + 0.5];
  const room = padding * (move(high) - move(low));
  const [start, end] = [move(low) - room, move(high) + room];
  const place = (value) => from + ((move(value) - start) / (end - start)) * (to - from);
  const back = log ? (value) => 10 ** value : (value) => value;
  return { place, low: back(start), high: back(end), ticks: log ? logTicks : linearTicks };
}

function ticksOf(found, whole, most) {
  const ticks = found.ticks(found.low, found.high, most);
  return whole ? ticks.filter((tick) => Math.abs(tick - Math.round(tick)) < 1e-9) : ticks;
}

// Where measurements are, without those whose numbers would run into the one before.
function measuredTicks(points, xs) {
  const ticks = [];
  for (const value of [...new Set(points.map((point) => point.x))].sort((a, b) => a - b))
    if (!ticks.length || xs.place(value) - xs.place(ticks.at(-1)) >= 26) ticks.push(value);
  return ticks;
}
