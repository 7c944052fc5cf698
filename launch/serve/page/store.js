// What the page knows: the runs, as the server lists them, and the choices of the reader, which are in the address.

export const known = {
  session: "", folder: "", version: 0, pending: 0, runs: new Map(), order: [], quantities: {}, problems: [], lost: "", abandoned: "",
};

export const choices = new URLSearchParams(location.hash.slice(1));

const listeners = [];

export const listen = (listener) => listeners.push(listener);

export const tell = (what) => listeners.forEach((listener) => listener(what));

export function choose(changes, { quiet = false } = {}) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined || value === false) choices.delete(name);
    else choices.set(name, value === true ? "1" : value);
  }
  history.replaceState(null, "", `#${choices}`);
  if (!quiet) tell("choice");
}

export function link(changes) {
  const other = new URLSearchParams(choices);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) other.delete(name);
    else other.set(name, value);
  }
  return `#${other}`;
}

window.addEventListener("hashchange", () => {
  const now = new URLSearchParams(location.hash.slice(1));
  for (const name of [...choices.keys()]) choices.delete(name);
  for (const [name, value] of now) choices.set(name, value);
  tell("choice");
});

export async function ask(path, parameters) {
  const answer = await fetch(`api/${path}?${new URLSearchParams(parameters)}`, { cache: "no-store" });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error ?? `status ${answer.status}`);
  return content;
}

export async function poll() {
  let answer;
  try {
    answer = await ask("runs", { since: known.version });
    if (known.session && answer.session !== known.session) {
      location.reload(); // The server was started anew, and numbers the runs anew.
      return;
    }
  } catch (error) {
    const before = known.lost;
    known.lost = "the server does not answer";
    if (before !== known.lost) tell("connection");
    return;
  }
  const back = known.lost !== "";
  const changed = answer.version !== known.version || answer.session !== known.session;
  const waited = known.pending !== answer.pending;
  known.lost = "";
  known.session = answer.session;
  known.folder = answer.folder;
  known.version = answer.version;
  known.pending = answer.pending;
  known.problems = answer.problems;
  known.quantities = answer.quantities;
  for (const run of answer.runs) known.runs.set(run.number, run);
  const present = new Set(answer.numbers);
  for (const number of [...known.runs.keys()]) if (!present.has(number)) known.runs.delete(number);
  known.order = answer.numbers;
  const left = answer.abandoned.join();
  const leaving = left !== known.abandoned;
  known.abandoned = left;
  const alone = new Set(answer.abandoned);
  for (const run of known.runs.values()) run.abandoned = alone.has(run.number);
  if (leaving || changed || back || waited) tell("runs");
}

// Which runs

const LAST = ["runtime", "analysis", "metrics", "evaluate", "seed", "replicas", "keep_every", "trajectory"];
const FIRST = ["strategy.name", "strategy.order", "case", "topology.name", "optimizer.name", "optimizer.lr", "batch_size"];

export const all = () => known.order.map((number) => known.runs.get(number)).filter(Boolean);

// As an address holds it: text that is no Unicode is changed.
const plain = (text) => new URLSearchParams([["x", text]]).get("x");

export const running = (run) => run.state === "running" && !run.abandoned;

export const find = (id) => all().find((run) => plain(run.id) === id);

export const idOf = (run) => run.id.slice(run.study && run.id.startsWith(`${run.study}/`) ? run.study.length + 1 : 0);

export function filtered(runs, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return runs.filter((run) => words.every((word) => {
    const place = word.indexOf("=");
    if (place < 1) return run.id.toLowerCase().includes(word) || run.state.includes(word);
    const [key, value] = [word.slice(0, place), word.slice(place + 1)];
    if (key === "state") return run.state === value;
    return Object.entries(run.config).some(([name, given]) =>
      (name === key || name.endsWith(`.${key}`) || name === `${key}.name`) && String(given).toLowerCase() === value);
  }));
}

export function listed() {
  const study = choices.get("study");
  const runs = study === null ? all() : all().filter((run) => plain(run.study) === study);
  return filtered(runs, choices.get("filter") ?? "");
}

export const ticked = new Set();

export function chosen() {
  const runs = listed();
  const some = runs.filter((run) => ticked.has(run.number));
  return some.length ? some : runs;
}

const textOf = (run, key) => String(run.config[key] ?? "");

// Keys that differ between runs with the same component around them: a ring has no rows in which a torus could differ.
export function varying(runs) {
  const values = new Map();
  const keys = new Set(runs.flatMap((run) => Object.keys(run.config)));
  for (const key of keys) {
    if (key.endsWith("digest") || key === "strategy_keys") continue;
    const parts = key.split(".");
    const owners = parts.slice(0, parts.at(-1) === "name" ? -2 : -1).map((_, i) => `${parts.slice(0, i + 1).join(".")}.name`);
    const found = new Map();
    for (const run of runs) {
      const around = parts.length > 1 && owners.length ? owners.map((owner) => run.config[owner]).join("\n") : "";
      if (!found.has(around)) found.set(around, new Set());
      found.get(around).add(textOf(run, key));
    }
    if ([...found.values()].some((different) => different.size > 1)) values.set(key, values.size);
  }
  const rank = (key) => {
    if (FIRST.includes(key)) return FIRST.indexOf(key);
    return FIRST.length + (LAST.some((word) => key.startsWith(word)) ? 1000 : 0) + values.get(key) / 1000;
  };
  return [...values.keys()].sort((x, y) => rank(x) - rank(y));
}

export const MOST_GROUPS = 24; // that can be told apart in a figure
const MOST_ALONE = 12;

export function keysOfGroups(runs) {
  const asked = choices.get("by");
  if (asked !== null) return asked === "run" ? null : asked.split(",").filter(Boolean);
  const found = [];
  let parts = 1;
  for (const key of varying(runs).filter((name) => !LAST.some((word) => name.startsWith(word)))) {
    const names = new Set(runs.map((run) => [...found, key].map((name) => textOf(run, name)).join("\n")));
    if (names.size <= parts || names.size > MOST_GROUPS) continue; // it tells nothing more, or too much
    found.push(key);
    parts = names.size;
  }
  if (!found.length && runs.length <= MOST_ALONE) return null;
  return found;
}

function said(key, value) {
  if (value === undefined || value === null) return "";
  const last = key.split(".").at(-1);
  if (last === "name" || last === "order" || last === "case") return String(value);
  return `${last === "lr" ? "lr" : last.replaceAll("_", " ")} ${value}`;
}

export function groups(runs) {
  const keys = keysOfGroups(runs);
  if (keys === null) return runs.map((run) => ({ label: choices.has("study") ? idOf(run) : run.id, runs: [run] }));
  const found = new Map();
  for (const run of runs) {
    const label = keys.map((key) => said(key, run.config[key])).filter(Boolean).join(", ") || "all runs";
    if (!found.has(label)) found.set(label, []);
    found.get(label).push(run);
  }
  return [...found].map(([label, members]) => ({ label, runs: members }));
}

// The keys in which runs of the same group differ, in words; keys that go together, as those of a named axis, count as one.
export function mixed(found) {
  const several = found.filter((group) => group.runs.length > 1);
  const together = new Map();
  for (const key of new Set(several.flatMap((group) => varying(group.runs)))) {
    const split = several.map((group) => {
      const values = group.runs.map((run) => textOf(run, key));
      return values.map((value) => values.indexOf(value)).join();
    }).join(";");
    together.set(split, [...(together.get(split) ?? []), key]);
  }
  const words = [...together.values()].map(([first, ...others]) => (others.length ? `${first} (with ${shortened(others).join(", ")})` : first));
  return shortened(words).join(", ");
}

const MOST_NAMED = 6;
const shortened = (words) => (words.length > MOST_NAMED ? [...words.slice(0, MOST_NAMED), `${words.length - MOST_NAMED} more`] : words);

export function ranges(runs) {
  const numbers = runs.map((run) => run.number).sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < numbers.length; ) {
    let j = i;
    while (j + 1 < numbers.length && numbers[j + 1] === numbers[j] + 1) j += 1;
    parts.push(i === j ? numbers[i] : `${numbers[i]}-${numbers[j]}`);
    i = j + 1;
  }
  return parts.join(",");
}

// Metrics

export function metricsOf(runs) {
  const count = new Map();
  for (const run of runs) for (const name of Object.keys(run.finals)) count.set(name, (count.get(name) ?? 0) + 1);
  const rank = (name) => {
    const order = Object.keys(known.quantities).indexOf(name);
    return order < 0 ? 1e6 : order;
  };
  return [...count.keys()].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

export function labelOf(name) {
  const quantity = known.quantities[name];
  const label = quantity?.label ?? name.replaceAll("_", " ");
  return quantity?.unit ? `${label} (${quantity.unit})` : label;
}

export const headingOf = (name) => known.quantities[name]?.heading || labelOf(name);

export const arrow = (name) => ({ smaller: " ↓", larger: " ↑" })[known.quantities[name]?.direction] ?? "";

// The first of the recorded quantities is the one by which runs are judged.
export const mainMetric = (names) => names.find((name) => known.quantities[name]?.direction) ?? names[0];
