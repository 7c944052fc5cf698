// The frame of the page: views, the choice of runs, the theme, and asking again while the page is seen.

import { make, replace, tick } from "./dom.js";
import * as agents from "./view_agents.js";
import * as curves from "./view_curves.js";
import * as compare from "./view_compare.js";
import * as run from "./view_run.js";
import * as runs from "./view_runs.js";
import * as scatter from "./view_scatter.js";
import { all, choices, choose, keysOfGroups, known, link, listed, listen, poll, running, ticked, varying } from "./store.js";

const VIEWS = { runs: ["Runs", runs], curves: ["Curves", curves], scatter: ["Scatter", scatter],
  agents: ["Agents", agents], compare: ["Compare", compare] };
const BETWEEN = 2000;
const main = document.getElementById("main");
let shown = null;
let closeView = null;

function view() {
  if (choices.has("run") && choices.get("view") === "run") return ["run", run];
  const name = choices.get("view") in VIEWS ? choices.get("view") : "runs";
  return [name, VIEWS[name][1]];
}

function showViews() {
  const [current] = view();
  replace(document.getElementById("views"), Object.entries(VIEWS).map(([name, [title]]) =>
    make("a", { href: link({ view: name, run: name === "agents" ? choices.get("run") : null }), "aria-current": name === current ? "page" : null }, title)));
}

function showMain(what) {
  const [name, module] = view();
  const key = name === "run" ? `run ${choices.get("run")}` : name;
  if (key !== shown) {
    closeView?.();
    closeView = null;
    replace(main);
    shown = key;
    closeView = module.open(main) ?? null;
  }
  module.update(what);
}

// Which runs

const side = document.getElementById("side");
const studies = make("ul", { class: "studies" });
const search = make("input", {
  type: "search", placeholder: "name or key=value", "aria-label": "Filter runs by name or key=value",
  oninput: () => choose({ filter: search.value }),
});
const keys = make("div", { class: "keys" });
const counts = make("p", { class: "soft" });
const problems = make("div");
const folded = make("details", { open: window.innerWidth > 760 },
  make("summary", {}, "Which runs"),
  make("span", { class: "heading" }, "Studies"), studies,
  make("label", {}, make("span", { class: "heading" }, "Filter"), search), counts,
  make("fieldset", {}, make("legend", {}, "Group by"), keys), problems);
side.append(folded);

function showSide() {
  const found = new Map();
  for (const each of all()) {
    if (!found.has(each.study)) found.set(each.study, []);
    found.get(each.study).push(each);
  }
  const entry = (name, text, runs) => {
    const active = runs.filter(running).length;
    const bad = runs.filter((each) => ["failed", "damaged"].includes(each.state)).length;
    const tail = [String(runs.length), active ? `${active} running` : "", bad ? `${bad} failed` : ""].filter(Boolean).join(", ");
    const plainName = name === null ? null : new URLSearchParams([["x", name]]).get("x");
    return make("li", {}, make("button", {
      type: "button", "aria-pressed": String(choices.get("study") === plainName),
      onclick: () => {
        ticked.clear();
        if (name === null) choices.delete("study");
        else choices.set("study", name);
        choose({ by: null });
      },
    }, make("span", {}, text), make("span", { class: "soft" }, tail)));
  };
  const list = [...found].map(([name, runs]) => entry(name, name || known.folder, runs));
  replace(studies, entry(null, "All", all()), list);
  if (document.activeElement !== search) search.value = choices.get("filter") ?? "";

  const runs = listed();
  const some = runs.filter((each) => ticked.has(each.number)).length;
  counts.textContent = `${runs.length.toLocaleString("en")} of ${all().length.toLocaleString("en")} runs${some ? `, ${some} ticked` : ""}`;

  const now = keysOfGroups(runs);
  const change = (key, on) => {
    const next = key === null ? "run" : [...(now ?? []).filter((each) => each !== key), ...(on ? [key] : [])].join(",");
    choices.set("by", key === null && !on ? "" : next);
    choose({});
  };
  const names = [...new Set([...varying(runs), ...(now ?? [])])];
  replace(keys, tick("each run", now === null, (on) => change(null, on)),
    names.map((key) => tick(key, now?.includes(key) ?? false, (on) => change(key, on))));

  replace(problems, known.problems.length
    ? make("details", {}, make("summary", { class: "problem" }, `${known.problems.length} cannot be read`),
      known.problems.slice(0, 50).map((problem) => make("p", { class: "problem" }, problem)))
    : null);
}

function showLive() {
  document.getElementById("folder").textContent = known.folder;
  const active = all().filter(running).length;
  document.getElementById("live").textContent = known.lost
    || (known.pending ? `reading ${known.pending.toLocaleString("en")} more runs …` : active ? `live, ${active} running` : "live");
  document.title = known.folder ? `${known.folder} · basinet` : "basinet";
}

// The theme

const THEMES = { auto: "◐ auto", light: "☀ light", dark: "☾ dark" };
const preferred = window.matchMedia("(prefers-color-scheme: dark)");
const button = document.getElementById("theme");

function stored() {
  try {
    return localStorage.getItem("theme") ?? "auto";
  } catch {
    return "auto"; // the browser keeps nothing
  }
}

let theme = choices.get("theme") in THEMES ? choices.get("theme") : stored();

function dress() {
  if (!(theme in THEMES)) theme = "auto";
  document.documentElement.dataset.theme = theme === "auto" ? (preferred.matches ? "dark" : "light") : theme;
  button.textContent = THEMES[theme];
  button.setAttribute("aria-label", `Theme: ${theme}`);
}

button.addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // it lasts until the page is closed
  }
  dress();
});
preferred.addEventListener("change", dress);
dress();

// Ask again

const AGEING = ["runs", "run", "agents"]; // views that change with time alone: ages, and what was asked for too soon
const AGE = 5000;
let told = 0;

listen((what) => {
  told = Date.now();
  showViews();
  showLive();
  showSide();
  if (known.session) showMain(what);
});

async function again() {
  if (!document.hidden) await poll();
  showLive();
  if (known.session && !document.hidden && Date.now() - told > AGE && AGEING.includes(view()[0])) {
    told = Date.now();
    showMain("time");
  }
  setTimeout(again, known.pending && !known.lost ? 50 : BETWEEN);
}

document.addEventListener("visibilitychange", () => document.hidden || poll());
showViews();
again();
