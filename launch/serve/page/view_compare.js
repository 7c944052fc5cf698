// The keys in which chosen runs differ, and their last values side by side.

import { make, replace, spread, tick } from "./dom.js";
import { arrow, choices, choose, chosen, idOf, labelOf, link, metricsOf } from "./store.js";

const MOST = 8;
let host;

export function open(main) {
  host = make("section");
  main.append(host);
}

export function update() {
  const every = chosen();
  const runs = every.slice(0, MOST);
  if (!runs.length) {
    replace(host, make("p", { class: "empty" }, "Tick the runs to compare in the table of runs."));
    return;
  }
  const whole = choices.has("whole");
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run.config)))];
  const text = (run, key) => (run.config[key] === undefined ? "" : run.config[key] === null ? "null" : String(run.config[key]));
  const differs = (key) => new Set(runs.map((run) => text(run, key))).size > 1;
  const rows = keys.filter((key) => whole || differs(key)).map((key) => make("tr", { class: whole && differs(key) ? "differs" : null },
    make("td", { class: "value" }, key), runs.map((run) => make("td", { class: "value" }, text(run, key) || "–"))));
  const metrics = metricsOf(runs).map((name) => make("tr", {}, make("td", { class: "value" }, labelOf(name) + arrow(name)),
    runs.map((run) => {
      const final = run.finals[name];
      return make("td", { class: "number" }, final ? spread(final[0], final[1] === null ? null : final[1] / Math.sqrt(final[2])) : "–");
    })));
  const head = (first) => make("thead", {}, make("tr", {}, make("th", {}, first),
    runs.map((run) => make("th", {}, make("a", { href: link({ view: "run", run: run.id }) }, choices.has("study") ? idOf(run) : run.id)))));
  replace(host,
    make("div", { class: "controls" }, tick("all keys", whole, (on) => choose({ whole: on })),
      make("span", { class: "soft" }, every.length > MOST
        ? `The first ${MOST} of ${every.length.toLocaleString("en")} runs: tick those to compare in the table of runs.`
        : `${runs.length} runs.`)),
    make("h2", {}, "Settings"),
    rows.length ? make("div", { class: "wide" }, make("table", { id: "differences", class: "compared" }, head("key"), make("tbody", {}, rows)))
      : make("p", { class: "empty" }, "These runs do not differ in any key."),
    make("h2", {}, "Last values"),
    make("div", { class: "wide" }, make("table", { class: "compared" }, head("mean ± standard error"), make("tbody", {}, metrics))));
}
