/** Elements of the page. Text only ever comes in as text. */

export const byId = (id) => document.getElementById(id);

/** A new element with properties, attributes where a name has a dash, and children; a string is a text. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
export const seconds = (time) => `${time.toFixed(2)} s`;

/** `[[label, probability], ...]` as a table with a bar each. */
export function bars(caption, top) {
  const rows = top.map(([label, share]) =>
    element("tr", {}, element("th", { scope: "row" }, label),
      element("td", {}, element("meter", { min: 0, max: 1, value: share, "aria-label": `Probability of ${label}` })),
      element("td", {}, percent(share))));
  return element("table", { className: "bars" }, element("caption", {}, caption), element("tbody", {}, ...rows));
}
