// One run in full: who works on it, what went wrong, its last values, its settings and its logs.

import { ago, make, replace, spread } from "./dom.js";
import { arrow, ask, choices, find, labelOf, link, metricsOf } from "./store.js";

let host, asked, answer, failure;

export function open(main) {
  host = make("section");
  main.append(host);
  asked = "";
  answer = failure = null;
}

export async function update() {
  const id = choices.get("run");
  const run = find(id);
  if (!run) {
    replace(host, make("p", { class: "empty" }, `There is no run ${id}, or no longer.`));
    return;
  }
  // The age of what was written last grows, even if nothing is written.
  const key = `${run.number} ${run.changed} ${run.state} ${run.state === "running" ? Math.floor(Date.now() / 10000) : ""}`;
  if (key !== asked) {
    asked = key;
    try {
      answer = await ask("run", { run: run.number });
      failure = null;
    } catch (error) {
      failure = error.message;
    }
    if (choices.get("run") !== id) return;
  } else if (host.childElementCount) return;
  show(run);
}

function show(run) {
  const terms = (pairs) => make("dl", {}, pairs.filter(([, value]) => value !== undefined && value !== "" && value !== null)
    .map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const status = answer?.status ?? {};
  const open = new Set([...host.querySelectorAll("details[open]")].map((each) => each.dataset.name));
  const fold = (name, start, ...content) => {
    const element = make("details", { open: open.has(name) || (start && !host.childElementCount) }, make("summary", {}, name), content);
    element.dataset.name = name;
    return element;
  };
  const others = Object.entries(status).filter(([name]) =>
    !["state", "step", "steps", "replicas", "agents", "engine", "error", "diverged", "stopped", "baselines"].includes(name));
  replace(host,
    make("h2", {}, run.id),
    make("div", { class: "controls" },
      make("a", { href: link({ view: "curves", filter: run.id, by: "run" }) }, "its curves"),
      make("a", { href: link({ view: "agents", run: run.id }) }, "its agents"),
      (answer?.files ?? []).map((path) => make("a", { href: `report/${path.split("/").map(encodeSafely).join("/")}`, target: "_blank", rel: "noopener" },
        path.includes("/") ? `report of ${path.split("/").slice(0, -1).join("/")}` : "report"))),
    failure ? make("p", { class: "problem" }, failure) : null,
    run.problem ? make("p", { class: "problem" }, run.problem) : null,
    terms([
      ["state", make("span", { class: `state ${run.state}` }, run.state)],
      ["step", `${run.step.toLocaleString("en")}${run.steps ? ` of ${run.steps.toLocaleString("en")}` : ""}`],
      ["worker", answer?.worker],
      ["written", ago(run.changed)],
      ["replicas", `${run.replicas}${run.diverged ? `, ${run.diverged} diverged` : ""}`],
      ["agents", status.agents],
      ["engine", status.engine],
      ["stopped early", status.stopped],
      ["error", run.error ? make("span", { class: "problem" }, run.error) : ""],
    ]),
    answer?.workers?.length > 1 ? [make("h2", {}, "Workers"), make("div", { class: "wide" }, make("table", {},
      answer.workers.map((cells, row) => make("tr", {}, cells.map((cell) => make(row ? "td" : "th", {}, cell))))))] : null,
    answer?.incidents?.length ? [make("h2", {}, "To know"), make("ul", {}, answer.incidents.map((each) => make("li", {}, each)))] : null,
    answer?.traceback ? fold("Traceback", true, make("pre", {}, answer.traceback)) : null,
    Object.keys(run.finals).length ? make("h2", {}, "Last values") : null,
    make("div", { class: Object.keys(run.finals).length ? "wide" : null }, make("table", {}, make("tbody", {}, metricsOf([run]).map((name) => {
      const [mean, sd, count] = run.finals[name];
      return make("tr", {}, make("td", {}, labelOf(name) + arrow(name)),
        make("td", { class: "number" }, spread(mean, sd === null ? null : sd / Math.sqrt(count))),
        make("td", { class: "soft" }, `n ${count}`));
    })))),
    make("h2", {}, "Logs"),
    Object.keys(answer?.logs ?? {}).length
      ? Object.entries(answer.logs).map(([name, text]) => fold(name, false, make("pre", {}, text)))
      : make("p", { class: "soft" }, "There are no files .log, .out or .err beside this run."),
    make("h2", {}, "Settings"),
    fold("all keys", false, make("div", { class: "wide" }, make("table", {}, make("tbody", {}, Object.entries(run.config).map(([key, value]) =>
      make("tr", {}, make("td", { class: "value" }, key), make("td", { class: "value" }, String(value)))))))),
    others.length ? fold("status.json", false, make("pre", {}, JSON.stringify(Object.fromEntries(others), null, 1))) : null);
}

function encodeSafely(part) {
  try {
    return encodeURIComponent(part);
  } catch {
    return ""; // a name that no address can hold
  }
}
