/** Landmarks of frames by MediaPipe Holistic in this browser, as the rows that the server's stage would make of the same frames. */

import { element } from "./elements.js";

const PLACE = "landmarks/";
const FOUND = { pose: "poseLandmarks", face: "faceLandmarks", left_hand: "leftHandLandmarks", right_hand: "rightHandLandmarks" };
const STEP = 1000 / 30;
const VALUES = ["x", "y", "z", "visibility"];

export class Landmarks {
  /** `rows` and `settings` are `rows` and `landmarks` of the card. */
  constructor(rows, settings) {
    Object.assign(this, { rows, settings, tracker: null, found: null, time: 0 });
  }

  /** Load what is needed; a fresh tracker, which knows nothing of frames before. */
  async start() {
    if (!globalThis.Holistic) await loaded(`${PLACE}holistic.js`);
    await this.close();
    this.tracker = new globalThis.Holistic({ locateFile: (name) => PLACE + name });
    this.tracker.setOptions({
      modelComplexity: 1,
      smoothLandmarks: true,
      refineFaceLandmarks: false,
      selfieMode: false,
      minDetectionConfidence: this.settings.detection_confidence,
      minTrackingConfidence: this.settings.tracking_confidence,
    });
    this.tracker.onResults((found) => { this.found = found; });
    await this.tracker.initialize();
  }

  /** float32 values of a video's or canvas' frame, in the order of the rows; a part that is not seen is zeros. */
  async row(image) {
    this.found = null;
    await this.#sent(image);
    const row = new Float32Array(this.rows.values);
    for (const { name, start, points, size } of this.rows.parts) {
      (this.found?.[FOUND[name]] ?? []).slice(0, points).forEach((point, number) => {
        for (let place = 0; place < size; place += 1) row[start + number * size + place] = point[VALUES[place]] ?? 0;
      });
    }
    return row;
  }

  /** The stage's tracker takes each frame to come STEP after the one before, and smooths by that; `send` only reads the browser's clock. */
  #sent(image) {
    const now = performance.now;
    this.time += STEP;
    performance.now = () => this.time;
    try {
      return this.tracker.send({ image });
    } finally {
      performance.now = now;
    }
  }

  async close() {
    await this.tracker?.close();
    this.tracker = null;
  }
}

function loaded(src) {
  return new Promise((done, failed) => {
    const script = element("script", { src, onload: done, onerror: () => failed(new Error("MediaPipe could not be loaded from the server.")) });
    document.head.append(script);
  });
}
