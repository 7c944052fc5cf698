// Elements and numbers. Text reaches the page as text nodes alone: names of runs are never markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "color") element.style.setProperty("--own", value);
    else if (name === "fill" || name === "stroke") element.style[name] = value;
    else if (["value", "checked", "selected", "disabled", "max", "min", "indeterminate"].includes(name) && name in element)
      element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

export const make = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

export const draw = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

export function choice(label, values, value, change) {
  const known = values.some(([name]) => name === value);
  const options = values.map(([name, text]) => make("option", { value: name, selected: name === value }, text));
  if (!known && values.length) options.unshift(make("option", { value: "", selected: true, disabled: true }, "choose"));
  const select = make("select", { onchange: () => change(select.value) }, options);
  return make("label", { class: "field" }, label, select);
}

export function tick(label, checked, change) {
  const box = make("input", { type: "checkbox", checked, onchange: () => change(box.checked) });
  return make("label", { class: "tick" }, box, label);
}

export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e6) return value.toLocaleString("en");
  if (size >= 1e6 || size < 1e-3) {
    const [head, power] = value.toExponential(digits - 1).split("e");
    return `${Number(head)}e${Number(power)}`;
  }
  return String(Number(value.toPrecision(digits)));
}

export function spread(mean, error) {
  if (error === null || error === undefined || !Number.isFinite(error) || error === 0) return number(mean);
  const places = Math.max(0, Math.min(8, 1 - Math.floor(Math.log10(error))));
  if (Math.abs(mean) >= 1e6 || (mean !== 0 && Math.abs(mean) < 1e-4)) return `${number(mean)} ± ${number(error, 2)}`;
  return `${mean.toFixed(places)} ± ${error.toFixed(places)}`;
}

export function ago(seconds) {
  if (!seconds) return "–";
  const age = Math.max(0, Date.now() / 1000 - seconds);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (age >= size) return `${Math.floor(age / size)} ${unit} ago`;
  return `${Math.floor(age)} s ago`;
}

export function replace(host, ...children) {
  host.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}
