// One number of each run against another, such as flatness against accuracy.

import { choice, make, number, replace, spread, tick } from "./dom.js";
import { colorOf, dot, points } from "./chart.js";
import { arrow, choices, choose, chosen, groups, idOf, labelOf, link, mainMetric, metricsOf, mixed } from "./store.js";

const FLAT = ["hessian_trace", "hessian_top_eigenvalue", "consensus_distance", "generalization_gap", "train_loss"];
const MOST_NAMED = 40;
let figure, legend, controls, note;

export function open(main) {
  controls = make("div", { class: "controls" });
  figure = make("figure", { id: "scatter" });
  legend = make("ul", { class: "legend" });
  note = make("p", { class: "soft" });
  main.append(controls, figure, legend, note);
}

export function update(what) {
  const runs = chosen();
  const names = metricsOf(runs);
  const vertical = names.includes(choices.get("ymetric")) ? choices.get("ymetric") : mainMetric(names);
  const usual = FLAT.find((name) => names.includes(name) && name !== vertical) ?? names.find((name) => name !== vertical);
  const across = names.includes(choices.get("xmetric")) ? choices.get("xmetric") : usual;
  if (!vertical || !across) {
    replace(controls);
    replace(legend);
    replace(figure, make("p", { class: "empty" }, "Fewer than two numbers have been measured in these runs."));
    note.textContent = "";
    return;
  }
  const [xLog, yLog] = [choices.has("xlog2"), choices.has("ylog2")];
  if (!controls.contains(document.activeElement) || what === "choice" || !controls.childElementCount) {
    const options = names.map((name) => [name, labelOf(name)]);
    replace(controls, choice("across", options, across, (value) => choose({ xmetric: value })),
      choice("up", options, vertical, (value) => choose({ ymetric: value })),
      tick("log x", xLog, (on) => choose({ xlog2: on })), tick("log y", yLog, (on) => choose({ ylog2: on })));
  }
  const found = groups(runs);
  const error = ([, sd, count]) => (sd === null ? null : sd / Math.sqrt(count));
  const marks = found.flatMap((group, place) => group.runs.filter((run) => run.finals[across] && run.finals[vertical]).map((run) => {
    const [x, y] = [run.finals[across], run.finals[vertical]];
    return {
      x: x[0], y: y[0], dx: error(x), dy: error(y), color: colorOf(place), shape: place,
      href: link({ view: "run", run: run.id }), title: choices.has("study") ? idOf(run) : run.id,
      lines: [group.label, `${labelOf(across)}: ${spread(x[0], error(x))}`, `${labelOf(vertical)}: ${spread(y[0], error(y))}`,
        `${run.state}, ${number(y[2])} replicas`],
    };
  }));
  if (!marks.length) {
    replace(figure, make("p", { class: "empty" }, "No run has both numbers."));
    replace(legend);
    note.textContent = "";
    return;
  }
  const left = points(figure, marks, {
    xLabel: labelOf(across) + arrow(across), yLabel: labelOf(vertical) + arrow(vertical), xLog, yLog,
    about: `${labelOf(vertical)} against ${labelOf(across)} of ${marks.length} runs`,
  });
  const shown = found.filter((group) => group.runs.some((run) => run.finals[across] && run.finals[vertical]));
  replace(legend, shown.slice(0, MOST_NAMED).map((group) => {
    const place = found.indexOf(group);
    return make("li", {}, dot(place, colorOf(place)), group.label);
  }), shown.length > MOST_NAMED ? make("li", { class: "soft" }, `and ${shown.length - MOST_NAMED} more groups`) : null);
  const differing = mixed(shown);
  const lacking = runs.length - marks.length;
  note.textContent = [
    "A point is a run: the mean of its replicas at its last step, with standard errors. Choose one to open it. ",
    differing ? `Runs of one colour differ in ${differing}; to part them, group by these keys. ` : "",
    lacking ? `${lacking.toLocaleString("en")} of ${runs.length.toLocaleString("en")} runs lack one of the numbers. ` : "",
    left ? `${left} points have no place on a logarithmic axis.` : "",
  ].join("");
}
