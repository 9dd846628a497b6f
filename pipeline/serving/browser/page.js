/** The page: what people do on it, and what it shows of the answers. */

import { card, send, sentence } from "./answers.js";
import { Camera, cameras } from "./camera.js";
import { bars, byId, element, percent, seconds } from "./elements.js";
import { Landmarks } from "./landmarks.js";
import { Timeline } from "./timeline.js";

const UNKNOWN = "NA";
let model = { limits: null, sentences: false, landmarks: null };
let landmarks = null;
let file = null;

const alarm = (error) => {
  byId("alert").textContent = error?.message ?? error;
};
const calm = () => alarm("");

async function about() {
  try {
    model = await card();
  } catch (error) {
    byId("model").textContent = "";
    return alarm(error);
  }
  const top1 = model.scores.top1 === undefined ? "" : `; ${percent(model.scores.top1)} of its ${model.scores.split} clips are said rightly`;
  byId("model").textContent = `${model.model} on ${model.dataset}: ${model.classes.length} signs${top1}`;
  byId("classes").textContent = `It may say: ${model.classes.join(", ")}`;
  byId("card").textContent = model.card;
  byId("sentences").hidden = !model.sentences;
  byId("landmarks-choice").hidden = !model.landmarks;
  landmarks = model.landmarks && new Landmarks(model.rows, model.landmarks);
}

async function write(labels) {
  if (!model.sentences || !labels.length) return;
  try {
    byId("sentence").textContent = await sentence(labels);
  } catch (error) {
    alarm(error);
  }
}

// ---- the camera

const camera = new Camera(byId("camera"), {
  state: (text) => { byId("camera-state").textContent = text; },
  failed: alarm,
  event: heard,
  stopped: () => { byId("camera-switch").textContent = "Start the camera"; },
});

function heard(event) {
  if (event.ended) {
    byId("camera-state").textContent = `${event.seen} frames seen, ${event.dropped} left out; ${event.p50_ms.toFixed(0)} ms a frame`;
  } else {
    const known = event.word !== UNKNOWN;
    byId("camera-state").textContent = event.label ? "Watching" : "Watching; a guess comes after as many frames as a sign has";
    byId("word").textContent = known ? event.word : "I don’t know";
    byId("word").classList.toggle("unknown", !known);
    byId("guess").textContent = event.label ? `${known ? "" : "perhaps "}${event.label}, ${percent(event.probability)}` : "no guess yet";
    byId("sure").value = event.label ? event.probability : 0;
    if (event.is_new) remember(event);
  }
  write(event.sentence ?? []);
}

function remember(event) {
  const line = element("li", {}, `${event.word} (${percent(event.probability)}, after ${seconds(event.seconds)})`);
  byId("history").append(line);
  line.scrollIntoView({ block: "nearest" });
}

byId("camera-switch").addEventListener("click", async () => {
  calm();
  if (camera.isOn) return camera.stop();
  byId("camera-switch").disabled = true;
  await camera.start(byId("devices").value, byId("landmarks").checked ? landmarks : null);
  byId("camera-switch").disabled = false;
  if (camera.isOn) byId("camera-switch").textContent = "Stop the camera";
  await listDevices();
});

for (const id of ["devices", "landmarks"]) {
  byId(id).addEventListener("change", () => {
    if (!camera.isOn) return;
    camera.stop();
    byId("camera-switch").click();
  });
}

async function listDevices() {
  const chosen = byId("devices").value;
  const options = (await cameras()).map(([value, label]) => element("option", { value }, label));
  if (options.length) byId("devices").replaceChildren(...options);
  if (chosen) byId("devices").value = chosen;
}

byId("mirror").addEventListener("change", () => byId("camera").classList.toggle("mirrored", byId("mirror").checked));
byId("clear").addEventListener("click", () => byId("history").replaceChildren());

// ---- a file

const timeline = new Timeline(byId("timeline"), byId("preview"), {
  ask: (start, end) => send(`predict?start=${start}&end=${end}`, file, model.limits),
  changed: () => write(timeline.labels()),
  fail: alarm,
});

function choose(chosen) {
  if (!chosen) return;
  file = chosen;
  calm();
  for (const id of ["answer", "timeline", "no-preview"]) byId(id).hidden = true;
  const preview = byId("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.hidden = false;
  byId("label").disabled = byId("spot").disabled = false;
  byId("file-state").textContent = file.name;
}

byId("preview").addEventListener("error", () => {
  byId("preview").hidden = true;
  byId("no-preview").hidden = false;
});

async function asking(path, show) {
  calm();
  const asked = file;
  byId("label").disabled = byId("spot").disabled = true;
  byId("file-state").textContent = `The server looks at ${asked.name} …`;
  try {
    const answer = await send(path, asked, model.limits);
    if (file === asked) show(answer);
  } catch (error) {
    if (file === asked) alarm(error);
  } finally {
    byId("label").disabled = byId("spot").disabled = false;
    byId("file-state").textContent = file.name;
  }
}

byId("label").addEventListener("click", () => asking("predict", (answer) => {
  byId("answer").replaceChildren(element("p", { className: "word" }, answer.label), bars(`${answer.clip} may be`, answer.top));
  byId("answer").hidden = false;
}));
byId("spot").addEventListener("click", () => asking("spot", (answer) => timeline.show(answer.glosses, byId("preview").duration)));
byId("file").addEventListener("change", () => choose(byId("file").files[0]));

const drop = byId("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  choose(event.dataTransfer.files[0]);
});

about();
listDevices();
