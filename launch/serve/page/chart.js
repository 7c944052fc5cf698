// Charts in SVG: axes, curves with bands, and points, with values under the pointer.

import { draw, make, number, replace } from "./dom.js";

const MARGIN = { top: 12, right: 14, bottom: 42, left: 62 };
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 2", "12 4"];
const COLORS = 10;

export const colorOf = (index) => `var(--c${index % COLORS})`;
export const dashOf = (index) => DASHES[index % DASHES.length];

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const power = (exponent) => `${exponent < 0 ? "⁻" : ""}${[...String(Math.abs(exponent))].map((d) => SUPERSCRIPTS[d]).join("")}`;

function decimal(value, step) {
  if (Math.abs(value) < step * 1e-9) return "0";
  const size = Math.max(Math.abs(value), step);
  if (size >= 1e5 || size < 1e-3) {
    const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-9);
    const head = Number((value / 10 ** exponent).toPrecision(3));
    return head === 1 ? `10${power(exponent)}` : `${head}·10${power(exponent)}`;
  }
  return String(Number(value.toFixed(Math.max(0, Math.ceil(-Math.log10(step) - 1e-9) + 1))));
}

export function scale(values, log, from, to) {
  let usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!usable.length) usable = log ? [1, 10] : [0, 1];
  let low = usable.reduce((a, b) => Math.min(a, b));
  let high = usable.reduce((a, b) => Math.max(a, b));
  const bend = log ? Math.log10 : (value) => value;
  if (low === high) {
    [low, high] = log ? [low / 2, high * 2] : low === 0 ? [-1, 1] : [low - Math.abs(low) / 10, high + Math.abs(high) / 10];
  }
  const pad = (bend(high) - bend(low)) * 0.03;
  const [start, end] = [bend(low) - pad, bend(high) + pad];
  const place = (value) => from + ((bend(value) - start) / (end - start)) * (to - from);
  place.clip = (value) => {
    const inside = log && value <= 0 ? start : Math.min(end + 1, Math.max(start - 1, bend(value)));
    return from + ((inside - start) / (end - start)) * (to - from);
  };
  place.invert = (pixel) => {
    const value = start + ((pixel - from) / (to - from)) * (end - start);
    return log ? 10 ** value : value;
  };
  place.ticks = ticks(start, end, log, Math.abs(to - from) / (from > to ? 45 : 75)); // y grows upwards
  return place;
}

function ticks(start, end, log, most) {
  if (log && end - start > 0.9) {
    const every = Math.max(1, Math.ceil((end - start) / most));
    const found = [];
    for (let exponent = Math.ceil(start - 1e-9); exponent <= end + 1e-9; exponent += 1)
      if (exponent % every === 0) found.push([10 ** exponent, exponent > -4 && exponent < 6 ? String(Number((10 ** exponent).toFixed(3))) : `10${power(exponent)}`]);
    if (found.length > 2 || end - start > 2.5) return found;
    const more = [];
    for (let exponent = Math.floor(start); exponent <= end; exponent += 1)
      for (const head of [1, 2, 5]) {
        const value = head * 10 ** exponent;
        if (Math.log10(value) >= start && Math.log10(value) <= end) more.push([value, decimal(value, 10 ** exponent)]);
      }
    return more;
  }
  const [low, high] = log ? [10 ** start, 10 ** end] : [start, end];
  const rough = (high - low) / Math.max(2, most);
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = size * [1, 2, 5, 10].find((each) => each * size >= rough * 0.999);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push([value, decimal(value, step)]);
  return found.length > 1 || most > 20 ? found : ticks(start, end, log, 2 * most);
}

function frame(width, height, x, y, xLabel, yLabel, about) {
  const { top, right, bottom, left } = MARGIN;
  const marks = draw("g", { "font-size": 12 });
  for (const [value, text] of x.ticks) {
    marks.append(draw("line", { class: "grid", x1: x(value), x2: x(value), y1: top, y2: height - bottom }));
    marks.append(draw("text", { x: x(value), y: height - bottom + 16, "text-anchor": "middle" }, text));
  }
  for (const [value, text] of y.ticks) {
    marks.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    marks.append(draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  const middle = (top + height - bottom) / 2;
  return draw(
    "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": about },
    marks,
    draw("rect", { class: "frame", x: left, y: top, width: width - left - right, height: height - top - bottom }),
    draw("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, xLabel),
    draw("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, yLabel),
  );
}

function sizeOf(host) {
  const width = Math.max(300, Math.floor(host.clientWidth || 700));
  return [width, Math.round(Math.max(260, Math.min(480, width * 0.56)))];
}

// Draw again whenever the width changes, from what was drawn last.
const drawn = new WeakMap();
const watcher = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const last = drawn.get(target);
    if (last && last.width !== target.clientWidth) {
      last.width = target.clientWidth;
      last.again();
    }
  }
});

function keep(host, again) {
  if (!drawn.has(host)) watcher.observe(host);
  drawn.set(host, { width: host.clientWidth, again });
}

export function showTip(host, event, ...content) {
  let tip = host.querySelector(":scope > .tip");
  if (!tip) host.append((tip = make("div", { class: "tip" })));
  replace(tip, ...content);
  const box = host.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  tip.style.left = `${x + 14 + tip.offsetWidth > box.width ? Math.max(0, x - tip.offsetWidth - 14) : x + 14}px`;
  tip.style.top = `${Math.max(0, Math.min(y + 12, box.height - tip.offsetHeight))}px`;
}

export const hideTip = (host) => host.querySelector(":scope > .tip")?.remove();

const MOST_SAID = 14;

export function curves(host, series, { xLabel, yLabel, xLog, yLog, about }) {
  keep(host, () => curves(host, series, { xLabel, yLabel, xLog, yLog, about }));
  const [width, height] = sizeOf(host);
  const { top, right, bottom, left } = MARGIN;
  const xs = series.flatMap((one) => one.x);
  const centers = series.flatMap((one) => one.mean);
  const ends = series.flatMap((one) => (one.low && !yLog ? [...one.low, ...one.high] : one.high ?? []));
  const x = scale(xs, xLog, left, width - right);
  const y = scale([...centers, ...ends], yLog, height - bottom, top);
  const svg = frame(width, height, x, y, xLabel, yLabel, about);
  const area = draw("g");
  const id = `clip${Math.random().toString(36).slice(2)}`;
  svg.append(draw("clipPath", { id }, draw("rect", { x: left, y: top, width: width - left - right, height: height - top - bottom })));
  area.setAttribute("clip-path", `url(#${id})`);
  const visible = (one, i) => Number.isFinite(one.mean[i]) && (!xLog || one.x[i] > 0) && (!yLog || one.mean[i] > 0);
  for (const one of series) {
    const places = one.x.map((_, i) => i).filter((i) => visible(one, i));
    if (one.low && places.length > 1) {
      const bounded = places.filter((i) => Number.isFinite(one.low[i]) && Number.isFinite(one.high[i]));
      const upper = bounded.map((i) => `${x(one.x[i]).toFixed(1)},${y.clip(one.high[i]).toFixed(1)}`);
      const lower = bounded.map((i) => `${x(one.x[i]).toFixed(1)},${y.clip(one.low[i]).toFixed(1)}`).reverse();
      area.append(draw("polygon", { class: "band", points: [...upper, ...lower].join(" "), fill: one.color, "fill-opacity": 0.16 }));
    }
  }
  for (const one of series) {
    const places = one.x.map((_, i) => i).filter((i) => visible(one, i));
    const points = places.map((i) => `${x(one.x[i]).toFixed(1)},${y(one.mean[i]).toFixed(1)}`);
    if (points.length > 1) {
      area.append(draw("polyline", {
        class: "curve", points: points.join(" "), fill: "none", stroke: one.color, "stroke-width": 1.9,
        "stroke-dasharray": one.dash, "stroke-linejoin": "round",
      }));
    }
    if (points.length && points.length <= 30) {
      for (const i of places) area.append(draw("circle", { cx: x(one.x[i]), cy: y(one.mean[i]), r: points.length > 1 ? 2.4 : 4, fill: one.color }));
    }
  }
  const cursor = draw("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
  svg.append(area, cursor);
  const move = (event) => {
    const pixel = ((event.clientX - svg.getBoundingClientRect().left) * width) / svg.getBoundingClientRect().width;
    if (pixel < left || pixel > width - right) return leave();
    const at = x.invert(pixel);
    const rows = series.map((one) => ({ one, i: nearest(one.x, at) })).filter(({ one, i }) => i >= 0 && at <= one.x.at(-1) * 1.02 + 1e-9);
    if (!rows.length) return leave();
    rows.sort((a, b) => b.one.mean[b.i] - a.one.mean[a.i]);
    const place = rows[0].one.x[rows[0].i];
    cursor.setAttribute("x1", x(place));
    cursor.setAttribute("x2", x(place));
    cursor.setAttribute("visibility", "visible");
    const lines = rows.slice(0, MOST_SAID).map(({ one, i }) => make("tr", {},
      make("td", {}, sample(one.color, one.dash)), make("td", {}, one.label),
      make("td", { class: "number" }, number(one.mean[i]), one.spread && one.spread[i] ? ` ± ${number(one.spread[i], 2)}` : ""),
      make("td", { class: "number soft" }, `n ${one.n[i]}`)));
    const more = rows.length > MOST_SAID ? make("div", { class: "soft" }, `and ${rows.length - MOST_SAID} more`) : null;
    showTip(host, event, make("div", {}, `${xLabel} ${number(place, 6)}`), make("table", {}, lines), more);
  };
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    hideTip(host);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
  replace(host, svg);
}

export function nearest(values, at) {
  let [low, high] = [0, values.length - 1];
  if (high < 0) return -1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle] < at) low = middle;
    else high = middle;
  }
  return Math.abs(values[low] - at) <= Math.abs(values[high] - at) ? low : high;
}

const MOST_BARS = 80;

export function points(host, marks, { xLabel, yLabel, xLog, yLog, about }) {
  keep(host, () => points(host, marks, { xLabel, yLabel, xLog, yLog, about }));
  const [width, height] = sizeOf(host);
  const { top, right, bottom, left } = MARGIN;
  const shown = marks.filter((mark) => (!xLog || mark.x > 0) && (!yLog || mark.y > 0));
  const bars = shown.length <= MOST_BARS;
  const ends = (name) => shown.flatMap((mark) => [mark[name], ...(bars && mark[`d${name}`] ? [mark[name] - mark[`d${name}`], mark[name] + mark[`d${name}`]] : [])]);
  const x = scale(ends("x"), xLog, left, width - right);
  const y = scale(ends("y"), yLog, height - bottom, top);
  const svg = frame(width, height, x, y, xLabel, yLabel, about);
  const radius = shown.length > 300 ? 3.5 : shown.length > 60 ? 5 : 6.5;
  for (const mark of shown) {
    const [cx, cy] = [x(mark.x), y(mark.y)];
    for (const [error, vertical] of [[mark.dx, false], [mark.dy, true]]) {
      if (!error || !bars) continue;
      const place = vertical ? y : x;
      const middle = vertical ? mark.y : mark.x;
      const ends = [place.clip(middle - error), place.clip(middle + error)];
      svg.append(draw("line", vertical
        ? { x1: cx, x2: cx, y1: ends[0], y2: ends[1], stroke: mark.color, "stroke-opacity": 0.5 }
        : { y1: cy, y2: cy, x1: ends[0], x2: ends[1], stroke: mark.color, "stroke-opacity": 0.5 }));
    }
  }
  for (const mark of shown) {
    const node = draw("path", { class: "mark", d: shape(mark.shape, x(mark.x), y(mark.y), radius), fill: mark.color });
    const say = (event) => showTip(host, event, make("strong", {}, mark.title), ...mark.lines.map((line) => make("div", {}, line)));
    const anchor = draw("a", { href: mark.href, "aria-label": [mark.title, ...mark.lines].join("; ") }, node);
    anchor.addEventListener("pointermove", say);
    anchor.addEventListener("pointerleave", () => hideTip(host));
    anchor.addEventListener("focus", () => {
      const box = node.getBoundingClientRect();
      say({ clientX: box.right, clientY: box.bottom });
    });
    anchor.addEventListener("blur", () => hideTip(host));
    svg.append(anchor);
  }
  replace(host, svg);
  return marks.length - shown.length;
}

export function shape(kind, x, y, r) {
  const [a, b] = [r * 1.15, r * 0.95];
  const forms = [
    `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
    `M${x - b},${y - b}h${2 * b}v${2 * b}h${-2 * b}Z`,
    `M${x},${y - a}L${x + a},${y + b}H${x - a}Z`,
    `M${x},${y - a * 1.1}L${x + a},${y}L${x},${y + a * 1.1}L${x - a},${y}Z`,
    `M${x},${y + a}L${x + a},${y - b}H${x - a}Z`,
  ];
  return forms[kind % forms.length];
}

export function sample(color, dash) {
  return draw("svg", { viewBox: "0 0 28 12", width: 28, height: 12, "aria-hidden": "true" },
    draw("line", { x1: 0, x2: 28, y1: 6, y2: 6, stroke: color, "stroke-width": 2.5, "stroke-dasharray": dash }));
}

export function dot(kind, color) {
  return draw("svg", { viewBox: "0 0 28 12", width: 28, height: 12, "aria-hidden": "true" },
    draw("path", { d: shape(kind, 14, 6, 5), fill: color }));
}
