// The agents of a run on their graph, coloured by what is known of each of them, through time.

import { choice, draw, make, number, replace, tick } from "./dom.js";
import { colorOf, hideTip, nearest, showTip } from "./chart.js";
import { ask, choices, choose, find, idOf, labelOf, listed } from "./store.js";

const SIZE = 560;
const FLOOR = 420;
const FRAME = 140;
const WIDE = 30; // ratio of values from which colours are logarithmic
const MIX = "label mix";
const BETWEEN = 5000;
// Viridis without its ends, which is seen on light and dark ground.
const SHADES = [[65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38]];

let controls, figure, player, scaleBar, note, data, asked, askedAt, timer, frame, nodes, failure;
let step; // that is shown, whatever is asked for and measured meanwhile; null for the last one
let goTo; // shows a frame

export function open(main) {
  controls = make("div", { class: "controls" });
  player = make("div", { class: "player" });
  figure = make("figure", { id: "agents" });
  scaleBar = make("div");
  note = make("p", { class: "soft" });
  main.append(controls, player, figure, scaleBar, note);
  data = null;
  asked = failure = "";
  askedAt = 0;
  step = null;
  return stop;
}

function stop() {
  clearInterval(timer);
  timer = null;
}

export function update(what) {
  const runs = listed().filter((run) => run.state !== "waiting" && run.state !== "damaged");
  const run = find(choices.get("run")) ?? runs[0];
  if (!run) {
    replace(controls);
    replace(player);
    replace(scaleBar);
    replace(figure, make("p", { class: "empty" }, "No run has begun yet."));
    note.textContent = "";
    return;
  }
  const replica = Math.min(Number(choices.get("replica") ?? 0) || 0, Math.max(0, run.replicas - 1));
  if (!controls.contains(document.activeElement) || what === "choice") showControls(run, runs, replica);
  const place = `${run.number} ${replica}`;
  const key = `${place} ${run.changed} ${run.state}`;
  const soon = !asked.startsWith(`${place} `);
  if (asked !== key && (soon || Date.now() - askedAt > BETWEEN)) {
    asked = key;
    askedAt = Date.now();
    if (soon) {
      stop();
      data = step = null;
      replace(figure, make("p", { class: "empty" }, "Reading the agents …"));
    }
    ask("agents", { run: run.number, replica }).then((answer) => {
      if (!asked.startsWith(`${place} `)) return;
      if (answer.missing) throw new Error(answer.missing);
      data = answer;
      failure = "";
      showControls(run, runs, replica);
      show();
    }).catch((error) => {
      data = null;
      failure = error.message;
      stop();
      replace(player);
      replace(scaleBar);
      replace(figure, make("p", { class: "empty" }, failure));
      note.textContent = "";
    });
  } else if (data && what === "choice") show();
}

const label = (name) => (name === "distance" ? "distance from the centroid" : labelOf(name));

function colouring() {
  const names = Object.keys(data.values);
  const asked = choices.get("colour");
  if (asked && (names.includes(asked) || (asked === MIX && data.labels.length))) return asked;
  return names.includes("distance") ? "distance" : names[0] ?? (data.labels.length ? MIX : "");
}

function showControls(run, runs, replica) {
  const options = [...new Set([run, ...runs])].slice(0, 2000);
  const colours = data ? [...Object.keys(data.values).map((name) => [name, label(name)]), ...(data.labels.length ? [[MIX, "labels of its samples"]] : [])] : [];
  replace(controls,
    choice("run", options.map((each) => [each.id, choices.has("study") ? idOf(each) : each.id]), run.id, (value) => choose({ run: value })),
    choice("replica", Array.from({ length: Math.max(1, run.replicas) }, (_, i) => [String(i), String(i)]), String(replica), (value) => choose({ replica: value })),
    colours.length ? choice("coloured by", colours, colouring(), (value) => choose({ colour: value })) : null,
    data && colouring() !== MIX && data.values[colouring()]?.steps.length > 1
      ? tick("colours span this step alone", choices.has("now"), (on) => choose({ now: on })) : null);
}

function show() {
  const colour = colouring();
  const series = colour === MIX || !colour ? null : data.values[colour];
  const count = series ? series.steps.length : 0;
  frame = step === null ? Math.max(0, count - 1) : nearest(series?.steps ?? [], step);
  drawGraph(colour);
  stopIfShort(count);
  if (count > 1) {
    const slider = make("input", { type: "range", min: 0, max: count - 1, value: frame, "aria-label": "step",
      oninput: () => { stop(); goTo(Number(slider.value)); } });
    slider.value = frame;
    const output = make("output", {});
    const play = make("button", { type: "button", onclick: () => {
      if (timer) stop();
      else {
        timer = setInterval(() => goTo(frame + 1), Math.min(FRAME, 20000 / count));
        if (frame === count - 1) frame = 0;
      }
      goTo(frame);
    } });
    goTo = (next) => {
      frame = next;
      step = frame < count - 1 ? series.steps[frame] : null;
      if (step === null) stop();
      play.textContent = timer ? "❚❚ pause" : "▶ play";
      slider.value = frame;
      output.textContent = `step ${series.steps[frame].toLocaleString("en")}`;
      paint(colour);
      if (choices.has("now")) showScale(colour);
    };
    replace(player, play, slider, output);
    goTo(frame);
  } else {
    replace(player, count ? make("output", {}, `step ${series.steps[0].toLocaleString("en")}`) : null);
    paint(colour);
  }
  showScale(colour);
  replace(note, [
    data.values.distance ? "" : "Distances through time need trajectory: agents in the experiment. ",
    Object.keys(data.values).some((name) => name !== "distance") ? ""
      : "Losses of single agents need trajectory: {points: agents, metrics: true}; other measures analysis_points: [centroid, agents]. ",
    data.edges_left_out ? `The ${data.edges_left_out.toLocaleString("en")} lightest edges are left out. ` : "",
    data.attackers.length ? "Red rings are attackers." : "",
  ].join(""));
}

function stopIfShort(count) {
  if (count < 2) stop();
}

// The colours span all steps, or only the one that is shown; logarithmically, if values are of several magnitudes.
function colourScale(series) {
  const now = choices.has("now");
  if (!now && series.scale) return series.scale;
  const values = (now ? (series.frames[frame] ?? []) : series.frames.flat()).filter((value) => value !== null).sort((a, b) => a - b);
  if (!values.length) values.push(0, 1);
  let [low, high] = [values[0], values.at(-1)];
  const positive = values.filter((value) => value > 0);
  const bend = low >= 0 && positive.length && high > WIDE * positive[positive.length >> 1] ? Math.log10 : (value) => value;
  if (bend === Math.log10) low = Math.max(positive[0], high / 1e4);
  const part = (value) => (high > low ? (bend(Math.max(low, value)) - bend(low)) / (bend(high) - bend(low)) : 0.5);
  const found = { low, high, part, log: bend === Math.log10 };
  if (!now) series.scale = found;
  return found;
}

function shade(part) {
  const place = Math.max(0, Math.min(1, part)) * (SHADES.length - 1);
  const low = Math.min(SHADES.length - 2, Math.floor(place));
  const mixed = SHADES[low].map((value, i) => Math.round(value + (SHADES[low + 1][i] - value) * (place - low)));
  return `rgb(${mixed.join(",")})`;
}

function drawGraph(colour) {
  const size = data.positions.length;
  const [xs, ys] = [0, 1].map((i) => data.positions.map((place) => place[i]));
  const radius = Math.max(3.5, Math.min(19, 130 / Math.sqrt(size)));
  const fit = (values, flip) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const edge = radius + (data.curved ? 34 : 6);
    const room = SIZE - 2 * edge;
    return (value) => edge + (high > low ? (flip ? high - value : value - low) / (high - low) : 0.5) * room;
  };
  const [x, y] = [fit(xs, false), fit(ys, true)];
  const heaviest = Math.max(1e-12, ...data.edges.map((edge) => edge[2]));
  const thin = Math.min(1, Math.max(0.25, (4 * size) / Math.max(1, data.edges.length)));
  const svg = draw("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, role: "img", "aria-label": `${size} agents, coloured by ${label(colour)}` });
  svg.style.maxWidth = `min(100%, max(${FLOOR}px, 100vh - 17rem))`;
  for (const [from, to, weight] of data.edges) {
    const [x1, y1, x2, y2] = [x(xs[from]), y(ys[from]), x(xs[to]), y(ys[to])];
    const bend = data.curved ? 0.15 : 0;
    const middle = `${(x1 + x2) / 2 + bend * (y2 - y1)},${(y1 + y2) / 2 - bend * (x2 - x1)}`;
    svg.append(draw("path", { class: "edge", d: `M${x1},${y1}Q${middle} ${x2},${y2}`,
      "stroke-width": (0.6 + 2.4 * (weight / heaviest)) * thin, "stroke-opacity": 0.25 + 0.5 * thin }));
    if (data.directed && size <= 60) svg.append(head(x1, y1, x2, y2, radius));
  }
  nodes = data.positions.map((_, agent) => {
    const [cx, cy] = [x(xs[agent]), y(ys[agent])];
    const group = draw("g", { tabindex: 0 });
    const shape = colour === MIX && size <= 150 ? pie(data.mix[agent], cx, cy, radius) : [draw("circle", { class: "node", cx, cy, r: radius })];
    group.append(...shape);
    if (data.attackers.includes(agent)) group.append(draw("circle", { class: "halo", cx, cy, r: radius + 3 }));
    if (radius > 9 && colour !== MIX) group.append(draw("text", { x: cx, y: cy + 4, "text-anchor": "middle" }, String(agent)));
    const say = (event) => showTip(figure, event, make("strong", {}, `agent ${agent}`), words(agent, colour).map((line) => make("div", {}, line)));
    group.addEventListener("pointermove", say);
    group.addEventListener("pointerdown", say);
    group.addEventListener("focus", () => {
      const box = group.getBoundingClientRect();
      say({ clientX: box.right, clientY: box.bottom });
    });
    for (const left of ["pointerleave", "blur"]) group.addEventListener(left, () => hideTip(figure));
    svg.append(group);
    return group;
  });
  replace(figure, svg);
}

function head(x1, y1, x2, y2, radius) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [dx, dy] = [(x2 - x1) / length, (y2 - y1) / length];
  const [tx, ty] = [x2 - dx * (radius + 1), y2 - dy * (radius + 1)];
  return draw("path", { d: `M${tx},${ty}L${tx - 7 * dx - 3.5 * dy},${ty - 7 * dy + 3.5 * dx}L${tx - 7 * dx + 3.5 * dy},${ty - 7 * dy - 3.5 * dx}Z`, fill: "var(--soft)" });
}

function pie(counts, cx, cy, radius) {
  const total = counts.reduce((a, b) => a + b, 0);
  const parts = counts.map((count, place) => [count, place]).filter(([count]) => count);
  const rim = draw("circle", { class: "node", cx, cy, r: radius, fill: parts.length === 1 ? colorOf(parts[0][1]) : "none" });
  if (parts.length < 2) return [rim];
  let angle = -Math.PI / 2;
  const slices = parts.map(([count, place]) => {
    const next = angle + (2 * Math.PI * count) / total;
    const point = (at) => `${cx + radius * Math.cos(at)},${cy + radius * Math.sin(at)}`;
    const slice = draw("path", { d: `M${cx},${cy}L${point(angle)}A${radius},${radius} 0 ${next - angle > Math.PI ? 1 : 0} 1 ${point(next)}Z`,
      fill: colorOf(place) });
    angle = next;
    return slice;
  });
  return [...slices, rim];
}

function words(agent, colour) {
  if (colour === MIX) {
    const counts = data.mix[agent];
    const total = counts.reduce((a, b) => a + b, 0);
    const most = counts.map((count, place) => [count, data.labels[place]]).filter(([count]) => count).sort((a, b) => b[0] - a[0]);
    return [`${total.toLocaleString("en")} samples`, ...most.slice(0, 6).map(([count, name]) => `label ${name}: ${count}`), most.length > 6 ? `and ${most.length - 6} more labels` : ""].filter(Boolean);
  }
  if (!colour) return [];
  return [`${label(colour)}: ${number(data.values[colour].frames[frame]?.[agent])}`];
}

function paint(colour) {
  if (!nodes || !colour) return;
  if (colour === MIX) {
    if (nodes.length <= 150) return;
    nodes.forEach((group, agent) => {
      const counts = data.mix[agent];
      group.querySelector(".node").style.fill = colorOf(counts.indexOf(Math.max(...counts)));
    });
    return;
  }
  const series = data.values[colour];
  const { part: place } = colourScale(series);
  nodes.forEach((group, agent) => {
    const value = series.frames[frame]?.[agent];
    const part = value === null || value === undefined ? null : place(value);
    group.querySelector(".node").style.fill = part === null ? "none" : shade(part);
    const text = group.querySelector("text");
    if (text) text.style.fill = part === null ? "" : part > 0.55 ? "#000" : "#fff";
  });
}

function showScale(colour) {
  if (colour === MIX) {
    replace(scaleBar, make("ul", { class: "legend" }, data.labels.map((name, place) => {
      const sample = draw("svg", { viewBox: "0 0 28 12", width: 28, height: 12 },
        draw("circle", { cx: 14, cy: 6, r: 5.5, fill: colorOf(place) }));
      return make("li", {}, sample, `label ${name}`);
    })));
    return;
  }
  if (!colour) {
    replace(scaleBar);
    return;
  }
  const { low, high, log } = colourScale(data.values[colour]);
  const bar = make("canvas", { width: 192, height: 1, role: "img", "aria-label": "colour scale" });
  const pen = bar.getContext("2d");
  for (let i = 0; i < 192; i += 1) {
    pen.fillStyle = shade(i / 191);
    pen.fillRect(i, 0, 1, 1);
  }
  replace(scaleBar, make("div", { class: "scale" }, number(low, 3), bar, number(high, 3), make("span", { class: "soft" }, label(colour), log ? ", logarithmic" : "")));
}
