/** Signs of a video on its time: each is a segment whose ends, or which as a whole, is moved by mouse or keyboard, and asked again. */

import { bars, element, percent, seconds } from "./elements.js";

const SHORTEST = 0.1;
const STEP = 0.1;
const LEAP = 1;
const COLUMNS = ["", "number", "number", "number", ""];
const WAYS = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -LEAP, PageUp: LEAP };

export class Timeline {
  /** `ask(start, end)` gives what `/predict` says of that interval; `changed()` is told after each change of labels; `fail(error)` of what failed. */
  constructor(root, preview, { ask, changed, fail }) {
    Object.assign(this, { root, preview, ask, changed, fail, segments: [], length: 1 });
    this.track = element("div", { className: "track", role: "group", "aria-label": "Segments in the order of time" });
    this.playhead = element("div", { className: "playhead" });
    this.rows = element("tbody");
    this.top = element("div", { "aria-live": "polite" });
    this.said = element("p", { className: "quiet", role: "status" });
    preview.addEventListener("timeupdate", () => this.#place());
    preview.addEventListener("loadedmetadata", () => this.#lasts(preview.duration));
  }

  /** Glosses as `/spot` gives them, of a video that lasts so long, as far as is known. */
  show(glosses, length) {
    this.segments = [];
    this.track.replaceChildren(this.playhead);
    this.rows.replaceChildren();
    this.top.replaceChildren();
    const add = element("button", { type: "button", id: "add", onclick: () => this.#new() }, "Add a segment at the shown moment");
    const save = element("button", { type: "button", onclick: () => this.#save() }, "Save as CSV");
    const help = "Move an end, or a whole segment, with the mouse or the arrow keys (Page Up and Down: a second); Enter asks again.";
    const head = ["Sign", "From", "To", "Probability", "Do"].map((name, place) =>
      element("th", { scope: "col", className: COLUMNS[place] }, name));
    this.root.replaceChildren(
      element("h3", {}, "Signs in it"), element("p", { className: "quiet" }, help), this.track, this.said,
      element("table", { className: "rows" }, element("thead", {}, element("tr", {}, ...head)), this.rows),
      element("div", { className: "controls" }, add, save), this.top);
    this.root.hidden = false;
    this.length = 1;
    this.#lasts(Math.max(length || 0, ...glosses.map((each) => each.end)));
    for (const gloss of glosses) this.#add({ ...gloss, moved: false });
    this.#told(glosses.length ? `${glosses.length} signs found` : "No signs found; add a segment to ask about a part.");
  }

  /** Labels in the order of time. */
  labels() {
    return this.#ordered().filter((each) => each.label).map((each) => each.label);
  }

  #ordered() {
    return [...this.segments].sort((a, b) => a.start - b.start);
  }

  #told(text) {
    this.said.textContent = text;
    this.changed();
  }

  #lasts(length) {
    if (!Number.isFinite(length) || length < this.length) return;
    this.length = length;
    const marks = Array.from({ length: 5 }, (_, number) => (length * number) / 4);
    const ticks = marks.map((time) => this.#at(element("span", {}, seconds(time)), time));
    this.track.querySelector(".ticks")?.remove();
    this.track.append(element("div", { className: "ticks", "aria-hidden": "true" }, ...ticks));
    this.segments.forEach((each) => this.#draw(each));
    this.#place();
  }

  #at(item, time) {
    item.style.left = `${(100 * time) / this.length}%`;
    return item;
  }

  #place() {
    this.#at(this.playhead, Math.min(this.preview.currentTime || 0, this.length));
  }

  #new() {
    const start = Math.min(this.preview.currentTime || 0, Math.max(0, this.length - LEAP));
    const segment = this.#add({ label: "", start, end: Math.min(this.length, start + LEAP), probability: 0, moved: true });
    segment.handles.start.focus();
    this.#told("A segment was added; move its ends, then ask.");
  }

  #add(segment) {
    segment.name = element("button", { type: "button", className: "name", onclick: () => this.#play(segment) });
    segment.handles = { start: this.#handle(segment, "start"), end: this.#handle(segment, "end") };
    segment.box = element("div", { className: "segment", role: "group" }, segment.handles.start, segment.name, segment.handles.end);
    this.#movable(segment.name, segment, "both");
    const again = element("button", { type: "button", className: "again", onclick: () => this.#again(segment) }, "Ask again");
    const remove = element("button", { type: "button", onclick: () => this.#remove(segment) }, "Remove");
    segment.cells = COLUMNS.slice(0, 4).map((className) => element("td", { className }));
    segment.again = again;
    segment.remove = remove;
    segment.row = element("tr", {}, ...segment.cells, element("td", { className: "controls" }, again, remove));
    this.segments.push(segment);
    this.track.append(segment.box);
    this.rows.append(segment.row);
    this.#draw(segment);
    return segment;
  }

  #handle(segment, edge) {
    const handle = element("div", { className: `handle ${edge}`, role: "slider", tabIndex: 0, "aria-orientation": "horizontal" });
    this.#movable(handle, segment, edge);
    return handle;
  }

  #movable(item, segment, edge) {
    item.addEventListener("keydown", (event) => {
      const by = WAYS[event.key] ?? { Home: -this.length, End: this.length }[event.key];
      if (event.key === "Enter") this.#again(segment);
      if (by === undefined && event.key !== "Enter") return;
      event.preventDefault();
      if (by) this.#move(segment, edge, by);
    });
    item.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      item.setPointerCapture(event.pointerId);
      segment.dragged = { x: event.clientX, moved: false };
    });
    item.addEventListener("pointermove", (event) => {
      if (!segment.dragged || !item.hasPointerCapture(event.pointerId)) return;
      const by = ((event.clientX - segment.dragged.x) / this.track.clientWidth) * this.length;
      if (Math.abs(by) < 0.01) return;
      segment.dragged = { x: event.clientX, moved: true };
      this.#move(segment, edge, by);
    });
    item.addEventListener("lostpointercapture", () => setTimeout(() => { segment.dragged = null; }));
  }

  #move(segment, edge, by) {
    const { start, end } = segment;
    const within = (time, low, high) => Math.round(100 * Math.min(Math.max(time, low), high)) / 100;
    if (edge === "start") segment.start = within(start + by, 0, end - SHORTEST);
    if (edge === "end") segment.end = within(end + by, start + SHORTEST, this.length);
    if (edge === "both") {
      segment.start = within(start + by, 0, this.length - (end - start));
      segment.end = within(segment.start + end - start, 0, this.length);
    }
    segment.moved ||= segment.start !== start || segment.end !== end;
    this.#draw(segment);
    if (this.preview.readyState) this.preview.currentTime = edge === "end" ? segment.end : segment.start;
  }

  #draw(segment) {
    const { start, end, label, probability, moved } = segment;
    const shown = label || "not asked yet";
    this.#at(segment.box, start).style.width = `${(100 * (end - start)) / this.length}%`;
    segment.box.classList.toggle("moved", moved);
    segment.box.setAttribute("aria-label", `${shown}, ${seconds(start)} to ${seconds(end)}`);
    segment.name.textContent = label || "?";
    segment.name.title = `${shown}${moved ? " (moved: ask again)" : ""}`;
    for (const [edge, low, high] of [["start", 0, end - SHORTEST], ["end", start + SHORTEST, this.length]]) {
      const says = { label: `${edge === "start" ? "Start" : "End"} of ${shown}`, valuemin: low, valuemax: high, valuenow: segment[edge] };
      for (const [name, value] of Object.entries(says)) segment.handles[edge].setAttribute(`aria-${name}`, value);
      segment.handles[edge].setAttribute("aria-valuetext", seconds(segment[edge]));
    }
    const texts = [shown + (moved && label ? " (moved: ask again)" : ""), seconds(start), seconds(end), label ? percent(probability) : "–"];
    segment.cells.forEach((cell, number) => { cell.textContent = texts[number]; });
    segment.again.setAttribute("aria-label", `Ask again about ${shown} at ${seconds(start)}`);
    segment.remove.setAttribute("aria-label", `Remove ${shown} at ${seconds(start)}`);
  }

  #play(segment) {
    if (segment.dragged?.moved || !this.preview.readyState) return;
    this.preview.currentTime = segment.start;
    this.preview.play().catch(() => {});
    const stop = () => {
      if (this.preview.currentTime < segment.end) return;
      this.preview.pause();
      this.preview.removeEventListener("timeupdate", stop);
    };
    this.preview.addEventListener("timeupdate", stop);
  }

  async #again(segment) {
    const { start, end } = segment;
    this.said.textContent = `Asking about ${seconds(start)} to ${seconds(end)} …`;
    try {
      const said = await this.ask(start, end);
      const unchanged = segment.start === start && segment.end === end;
      Object.assign(segment, { label: said.label, probability: said.probability, moved: !unchanged });
      this.#draw(segment);
      this.top.replaceChildren(bars(`What ${seconds(start)} to ${seconds(end)} may be`, said.top));
      this.#told(`${seconds(start)} to ${seconds(end)}: ${said.label}, ${percent(said.probability)}`);
    } catch (error) {
      this.said.textContent = "";
      this.fail(error);
    }
  }

  #remove(segment) {
    this.segments = this.segments.filter((each) => each !== segment);
    segment.box.remove();
    segment.row.remove();
    this.root.querySelector("#add").focus();
    this.#told(`Removed ${segment.label || "a segment"}.`);
  }

  #save() {
    const quoted = (text) => `"${String(text).replaceAll('"', '""')}"`;
    const lines = this.#ordered().filter((each) => each.label)
      .map((each) => [quoted(each.label), each.start.toFixed(3), each.end.toFixed(3), each.probability.toFixed(6)].join(","));
    const content = new Blob([["label,start,end,probability", ...lines, ""].join("\n")], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(content), download: "glosses.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href));
  }
}
