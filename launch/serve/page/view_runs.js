// The table of runs: state, progress, what they differ in, and their last values.

import { ago, make, replace, spread, tick } from "./dom.js";
import { all, arrow, choices, choose, headingOf, idOf, link, listed, mainMetric, metricsOf, tell, ticked, varying } from "./store.js";

const PAGE = 200;
const MOST_KEYS = 6;
const MOST_METRICS = 5;
let host, limit;

export function open(main) {
  limit = PAGE;
  host = make("section");
  main.append(host);
}

function columns(runs) {
  const names = metricsOf(runs);
  const main = mainMetric(names);
  const metrics = [main, ...names.filter((name) => name !== main && !["epoch", "communicated_bytes"].includes(name))]
    .filter(Boolean).slice(0, MOST_METRICS);
  const keys = varying(runs).filter((key) => !key.startsWith("runtime") && !key.startsWith("analysis")).slice(0, MOST_KEYS);
  return { metrics, keys };
}

const headings = { name: "run", state: "state", progress: "progress", changed: "written" };

export function update() {
  const runs = listed();
  if (!runs.length) {
    replace(host, make("p", { class: "empty" }, all().length ? "No run fits the filter." : "There are no runs below this folder yet."));
    return;
  }
  const { metrics, keys } = columns(runs);
  const [field, direction] = (choices.get("sort") ?? "").split("|");
  const value = (run) => {
    if (field === "name") return run.id;
    if (field === "state") return run.state;
    if (field === "progress") return run.step;
    if (field === "changed") return run.changed;
    if (field?.startsWith("metric ")) return run.finals[field.slice(7)]?.[0];
    if (field?.startsWith("key ")) return run.config[field.slice(4)];
    return undefined;
  };
  const sorted = field ? [...runs].sort((a, b) => compare(value(a), value(b), direction === "down")) : runs;
  const heading = (name, text, numeric) => {
    const current = field === name;
    return make("th", { class: numeric ? "number" : null, "aria-sort": current ? (direction === "down" ? "descending" : "ascending") : null },
      make("button", { type: "button", onclick: () => choose({ sort: `${name}|${current && direction === "up" ? "down" : "up"}` }) },
        text, current ? (direction === "down" ? " ▼" : " ▲") : ""));
  };
  const everything = runs.every((run) => ticked.has(run.number));
  const shownStudy = !choices.has("study");
  const rows = sorted.slice(0, limit).map((run) => make("tr", {},
    make("td", {}, make("input", {
      type: "checkbox", checked: ticked.has(run.number), "aria-label": `Choose ${run.id}`,
      onchange: (event) => {
        if (event.target.checked) ticked.add(run.number);
        else ticked.delete(run.number);
        tell("choice");
      },
    })),
    make("td", { class: "name" }, make("a", { href: link({ view: "run", run: run.id }) }, shownStudy ? run.id : idOf(run)),
      run.problem || run.error ? make("div", { class: "problem" }, brief(run.problem.split(`${run.id}/`).at(-1) || run.error)) : null),
    make("td", {}, make("span", { class: `state ${run.abandoned ? "interrupted" : run.state}` }, run.state),
      run.abandoned ? make("div", { class: "soft" }, "no process") : null,
      run.diverged ? make("div", { class: "soft" }, `${run.diverged} of ${run.replicas} diverged`) : null),
    make("td", {}, run.steps ? make("progress", { value: Math.min(run.step, run.steps), max: run.steps, "aria-label": "progress" }) : null,
      make("div", { class: "soft state-of" }, `${run.step.toLocaleString("en")}${run.steps ? ` / ${run.steps.toLocaleString("en")}` : ""}`)),
    metrics.map((name) => make("td", { class: "number" }, cell(run.finals[name]))),
    keys.map((key) => make("td", {}, run.config[key] === undefined || run.config[key] === null ? "–" : String(run.config[key]))),
    make("td", { class: "soft state-of" }, ago(run.changed))));
  replace(host,
    make("div", { class: "controls" },
      tick("tick all that are listed", everything, (on) => {
        for (const run of runs) if (on) ticked.add(run.number); else ticked.delete(run.number);
        tell("choice");
      }),
      make("span", { class: "soft" }, "The other views show the ticked runs, or all that are listed. Values: mean ± standard error over replicas.")),
    make("div", { class: "wide" }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", {}), heading("name", headings.name), heading("state", headings.state),
        heading("progress", headings.progress),
        metrics.map((name) => heading(`metric ${name}`, headingOf(name) + arrow(name), true)),
        keys.map((key) => heading(`key ${key}`, key.replace(/\.name$/, ""))), heading("changed", headings.changed))),
      make("tbody", {}, rows))),
    sorted.length > limit
      ? make("p", {}, make("button", { type: "button", onclick: () => { limit += PAGE; update(); } },
        `show ${Math.min(PAGE, sorted.length - limit)} more of ${sorted.length.toLocaleString("en")}`))
      : null);
}

const brief = (text) => (text.length > 160 ? `${text.slice(0, 160)} …` : text);

const cell = (final) => (final ? spread(final[0], final[1] === null ? null : final[1] / Math.sqrt(final[2])) : "–");

function compare(a, b, down) {
  const missing = (value) => value === undefined || value === null;
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return down ? -order : order;
}
