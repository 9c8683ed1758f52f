// A chart of curves with intervals. Text from the data only ever becomes text nodes, never markup.

const MARGIN = { left: 62, right: 14, top: 12, bottom: 46 };
const REACH = 40; // pixels from a point within which the pointer is on it
const NEAR = 2; // how far above the floor the close view goes, as a factor

class Chart {
  // host: a figure with data-x, data-y and data-range, which its select elements change; data-front: draw the Pareto
  // front; data-pairs: points without lines, and where both coordinates are equal; data-falling: x falls to the right;
  // data-key: the legend names the curves.
  constructor(host, data, visible) {
    [this.host, this.data, this.visible] = [host, data, visible];
    this.plot = host.querySelector(".plot");
    this.tip = host.querySelector(".tip");
    this.note = host.querySelector(".note");
    this.key = host.querySelector(".key");
    this.heading = host.querySelector("h3");
    this.clip = `clip-${host.id}`;
    for (const select of host.querySelectorAll("select")) {
      select.addEventListener("change", () => {
        host.dataset[select.name] = select.value;
        this.draw();
      });
    }
    new ResizeObserver(() => this.plot.clientWidth !== this.width && this.draw()).observe(this.plot);
    this.plot.addEventListener("pointermove", (event) => this.seek(event));
    this.plot.addEventListener("pointerdown", (event) => this.seek(event));
    this.plot.addEventListener("pointerleave", () => this.point(null));
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.plot.addEventListener("blur", () => this.point(null), true);
  }

  // The rows that can be drawn, with their places in the data's units.
  collect(name, metric) {
    const along = this.host.dataset.x;
    const counts = { below: 0, missing: 0 };
    const points = [];
    this.data.rows.forEach((row, index) => {
      const found = row.metrics[name];
      if (!found || !this.visible(row.curve)) return;
      if (found[0] === null) counts.missing += 1;
      else points.push({ index, row, x: row[along], y: found[0], low: found[1], high: found[2] });
    });
    const positive = points.filter((point) => point.x > 0 && (!metric.log || point.y > 0));
    counts.below = points.length - positive.length;
    return { points: positive, counts };
  }

  draw() {
    this.width = this.plot.clientWidth;
    if (!this.width) return;
    const { data, host } = this;
    const height = Math.round(Math.min(440, Math.max(280, 0.62 * this.width)));
    const name = host.dataset.y;
    const metric = data.metrics[name];
    const lines = data.lines[name] || [];
    const { points, counts } = this.collect(name, metric);
    this.heading.textContent = `${metric.label[0].toUpperCase()}${metric.label.slice(1)} against ${data.axes[host.dataset.x].title}`;
    this.points = points;
    this.point(null);
    this.plot.replaceChildren();
    const root = svg("svg", { viewBox: `0 0 ${this.width} ${height}`, role: "group", tabindex: 0 }, this.plot);
    root.setAttribute("aria-label", `${this.heading.textContent}: arrow keys move from point to point`);
    if (!points.length) {
      svg("text", { x: this.width / 2, y: height / 2, class: "middle" }, root, "no rows to draw: choose a solver");
      this.note.textContent = "";
      this.key.replaceChildren();
      return;
    }
    const box = { left: MARGIN.left, right: this.width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
    const usable = (value) => value !== null && (!metric.log || value > 0);
    let figures = points.flatMap((point) => [point.y, point.low, point.high]);
    figures = figures.concat(lines.flatMap(({ value, spread }) => [value, value - (spread || 0), value + (spread || 0)]));
    figures = figures.filter(usable);
    if (host.dataset.range === "near" && metric.log) {
      const floor = Math.max(Math.min(...points.map((point) => point.y)), ...lines.map((line) => line.value));
      const limit = data.tops?.[name] ?? Infinity;
      const members = "front" in host.dataset ? points.filter((point) => this.onFront(point) && point.y <= limit) : [];
      const top = Math.max(NEAR * floor, ...members.map((point) => 1.1 * point.y));
      figures = figures.filter((value) => value <= top).concat(top);
    }
    const edge = host.dataset.range === "useful" ? (data.tops?.[name] ?? Infinity) : Infinity;
    if (figures.some((value) => value <= edge)) figures = figures.filter((value) => value <= edge);
    let across = points.map((point) => point.x);
    if ("pairs" in host.dataset) across = figures = figures.concat(across);
    const ends = "falling" in host.dataset ? [box.right, box.left] : [box.left, box.right];
    const xs = scale(across, true, ...ends, 0.04);
    const ys = scale(figures, metric.log, box.bottom, box.top, 0.04);
    this.axes(root, box, xs, ys, metric, points);
    svg("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top },
      svg("clipPath", { id: this.clip }, root));
    const area = svg("g", { "clip-path": `url(#${this.clip})` }, root);
    for (const line of lines.filter(({ value }) => usable(value))) this.floor(area, box, ys, line);
    for (const point of points) {
      point.px = xs.place(point.x);
      point.py = ys.place(point.y);
      point.beyond = point.y > edge && point.py < box.top;
      const end = (value) => (usable(value) ? ys.place(value) : box.bottom + 9);
      if (point.low !== null && point.high !== null) [point.bottom, point.top] = [end(point.low), end(point.high)];
    }
    this.points = points.filter((point) => point.beyond || point.py >= box.top - 1);
    if ("front" in host.dataset) this.front(area, points);
    if ("pairs" in host.dataset) {
      const [low, high] = [Math.max(xs.low, ys.low), Math.min(xs.high, ys.high)];
      svg("path", { d: `M${xs.place(low)},${ys.place(low)}L${xs.place(high)},${ys.place(high)}`, class: "floor dashed" }, area);
    }
    data.curves.forEach((curve, index) => this.curve(area, curve, points.filter((point) => point.row.curve === index)));
    for (const point of points.filter(({ beyond }) => beyond)) this.beyond(area, box, point);
    this.ring = svg("circle", { r: 10, class: "ring", visibility: "hidden" }, root);
    this.legend(metric, lines);
    const outside = points.length - this.points.length;
    const beyond = points.filter((point) => point.beyond).length;
    const notes = [];
    if (beyond) notes.push(`${beyond} of ${points.length} points lie above this range, marked ▲ at its edge`);
    if (outside) notes.push(`${outside} of ${points.length} points lie above this range`);
    if (counts.below) notes.push(`${counts.below} at or below zero, which a logarithmic axis does not have`);
    if (counts.missing) notes.push(`${counts.missing} not finite`);
    const bars = points.some((point) => point.top !== undefined) ? " Bars: 95 % intervals." : "";
    this.note.textContent = `${metric.label}: ${metric.meaning}.${bars}${notes.length ? ` ${notes.join("; ")}.` : ""}`;
  }

  // A point above the range, at the range's edge; where it lies the pointer tells.
  beyond(area, box, point) {
    const curve = this.data.curves[point.row.curve];
    const group = svg("g", { class: `curve c${curve.color}`, "data-curve": point.row.curve }, area);
    point.py = box.top + 7;
    svg("path", { d: markerPath(3, point.px, point.py, 6), class: "point", "data-row": point.index }, group);
  }

  // What the lines across the chart are, and the curves where nothing else on the page says so.
  legend(metric, lines) {
    const entry = (text, draw, style) => {
      const made = document.createElement("span");
      made.className = "entry";
      draw(svg("svg", { class: style, "aria-hidden": "true" }, made));
      made.append(text);
      return made;
    };
    const entries = lines.map((line) => {
      const rounded = (value) => shown(metric, Number(value.toPrecision(3)));
      const text = `${line.label} ${rounded(line.value)}${line.spread ? ` ± ${rounded(line.spread)}` : ""}`;
      return entry(text, (parent) => svg("line", { x1: 0, x2: 30, y1: 5, y2: 5, class: `floor ${line.style}` }, parent), "");
    });
    if ("key" in this.host.dataset) {
      const drawn = new Set(this.points.map((point) => point.row.curve));
      const curves = this.data.curves.filter((_, index) => drawn.has(index));
      const draw = (curve) => (parent) => swatch(parent, curve, 5, 4, this.joined());
      entries.unshift(...curves.map((curve) => entry(curve.label, draw(curve), `c${curve.color}`)));
    }
    this.key.replaceChildren(...entries);
  }

  joined() {
    return !("front" in this.host.dataset || "pairs" in this.host.dataset);
  }

  axes(root, box, xs, ys, metric, points) {
    const along = this.data.axes[this.host.dataset.x];
    for (const tick of ticksOf(ys, metric.whole, Math.round((box.bottom - box.top) / 34))) {
      const y = ys.place(tick);
      svg("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: "grid" }, root);
      const text = metric.percent ? `${tickText(100 * tick)} %` : tickText(tick);
      svg("text", { x: box.left - 7, y: y + 4, class: "end" }, root, text);
    }
    const room = (box.right - box.left) / 30;
    const ticks = along.measured ? measuredTicks(points, xs) : ticksOf(xs, along.whole, Math.round(0.75 * room));
    for (const tick of ticks) {
      const x = xs.place(tick);
      svg("line", { x1: x, x2: x, y1: box.top, y2: box.bottom, class: "grid" }, root);
      svg("text", { x, y: box.bottom + 18, class: "middle" }, root, tickText(tick));
    }
    svg("path", { d: `M${box.left},${box.top}V${box.bottom}H${box.right}`, class: "axis" }, root);
    const middle = (box.top + box.bottom) / 2;
    svg("text", { x: (box.left + box.right) / 2, y: box.bottom + 38, class: "middle title" }, root, along.title);
    svg("text", { transform: `translate(13 ${middle}) rotate(-90)`, class: "middle title" }, root, metric.label);
  }

  floor(area, box, ys, line) {
    if (line.spread) {
      const [top, bottom] = [ys.place(line.value + line.spread), ys.place(Math.max(line.value - line.spread, ys.low))];
      svg("rect", { x: box.left, width: box.right - box.left, y: top, height: bottom - top, class: "spread" }, area);
    }
    const y = ys.place(line.value);
    svg("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: `floor ${line.style}` }, area);
  }

  onFront(point) {
    return point.row.front.includes(this.host.dataset.x);
  }

  front(area, points) {
    const members = points.filter((point) => this.onFront(point)).sort((a, b) => a.x - b.x);
    const path = members.map((point, index) => (index ? `H${point.px}V${point.py}` : `M${point.px},${point.py}`));
    svg("path", { d: path.join(""), class: "frontier" }, area);
    for (const point of members) svg("circle", { cx: point.px, cy: point.py, r: 9, class: "front" }, area);
  }

  curve(area, curve, points) {
    if (!points.length) return;
    points.sort((a, b) => a.x - b.x);
    const group = svg("g", { class: `curve c${curve.color} ${curve.stochastic ? "hollow" : ""}`, "data-curve": points[0].row.curve }, area);
    if (this.joined()) {
      const path = points.map((point, index) => `${index ? "L" : "M"}${point.px.toFixed(2)},${point.py.toFixed(2)}`);
      svg("path", { d: path.join(""), class: "line", "stroke-dasharray": curve.dash.join(" ") }, group);
    }
    for (const { px, top, bottom } of points.filter((point) => point.top !== undefined))
      svg("path", { d: `M${px - 3},${top}h6M${px - 3},${bottom}h6M${px},${top}V${bottom}`, class: "bar" }, group);
    for (const { px, py, index, row } of points) {
      const kind = row.hollow ? "point hollow" : "point";
      svg("path", { d: markerPath(curve.marker, px, py, 5), class: kind, "data-row": index }, group);
    }
  }

  seek(event) {
    const place = this.plot.getBoundingClientRect();
    const [x, y] = [event.clientX - place.left, event.clientY - place.top];
    let [nearest, distance] = [null, REACH];
    for (const point of this.points || []) {
      const away = Math.hypot(point.px - x, point.py - y);
      if (away < distance) [nearest, distance] = [point, away];
    }
    this.point(nearest);
  }

  // Left and right move along a curve, up and down to the nearest point of the next one.
  step(event) {
    if (event.key === "Escape") return this.point(null);
    const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!(along || across) || !this.points?.length) return undefined;
    event.preventDefault();
    if (!this.current) return this.point(this.points[0]);
    const { row, px } = this.current;
    const owners = [...new Set(this.points.map((point) => point.row.curve))].sort((a, b) => a - b);
    const owner = across ? owners[(owners.indexOf(row.curve) + across + owners.length) % owners.length] : row.curve;
    const members = this.points.filter((point) => point.row.curve === owner).sort((a, b) => a.px - b.px);
    if (along) return this.point(members[members.indexOf(this.current) + along] || this.current);
    return this.point(members.reduce((best, point) => (Math.abs(point.px - px) < Math.abs(best.px - px) ? point : best)));
  }

  point(found) {
    this.current = found;
    this.tip.hidden = !found;
    this.ring?.setAttribute("visibility", found ? "visible" : "hidden");
    for (const group of this.plot.querySelectorAll(".curve"))
      group.classList.toggle("dim", Boolean(found) && Number(group.dataset.curve) !== found.row.curve);
    if (!found) return;
    this.ring.setAttribute("cx", found.px);
    this.ring.setAttribute("cy", found.py);
    this.describe(found.row);
    const [wide, high] = [this.tip.offsetWidth, this.tip.offsetHeight];
    const left = found.px + 16 + wide > this.width ? found.px - 16 - wide : found.px + 16;
    this.tip.style.left = `${Math.max(0, Math.min(left, this.width - wide))}px`;
    this.tip.style.top = `${Math.max(-high / 2, found.py - high / 2)}px`;
  }

  describe(row) {
    const line = (term, text) => {
      const entry = document.createElement("div");
      const label = document.createElement("span");
      label.textContent = term;
      entry.append(label, ` ${text}`);
      return entry;
    };
    const title = document.createElement("strong");
    title.textContent = this.data.curves[row.curve].label;
    const entries = [title, ...Object.entries(row.about).map(([term, text]) => line(term, text))];
    for (const [name, axis] of Object.entries(this.data.axes)) entries.push(line(axis.label, number(row[name])));
    for (const [name, found] of Object.entries(row.metrics)) {
      const metric = this.data.metrics[name];
      const entry = line(metric.label, found[0] === null ? "not finite" : estimate(metric, found));
      if (name === this.host.dataset.y) entry.className = "chosen";
      entries.push(entry);
    }
    this.tip.replaceChildren(...entries);
  }
}
