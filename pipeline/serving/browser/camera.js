/** A camera whose frames go to the server as JPEG, never more at a time than it looks at and has waiting, and what it sees in them. */

const MOST = 2;
/** One frame is looked at and one waits; of more the server would drop some. */
const LONGEST_SIDE = 640;
const QUALITY = 0.85;
const ENDS = {
  1001: "The server has ended.",
  1006: "The connection to the server was lost.",
  1008: "The server refuses this camera.",
  1012: "The server has ended.",
  1013: "The server watches as many cameras as it may. Try again later.",
};
const CAMERAS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it in the address bar, then start again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be read; another program may use it.",
  OverconstrainedError: "That camera is not there any more. Choose another.",
};

/** Cameras by name; browsers tell the names only once one was allowed. */
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((each) => each.kind === "videoinput").map((each, number) => [each.deviceId, each.label || `Camera ${number + 1}`]);
}

export class Camera {
  /** Tells `state(text)`, each `event` of the server, `failed(text)`, and `stopped()` once. */
  constructor(video, told) {
    Object.assign(this, { video, told, canvas: document.createElement("canvas"), flying: 0, isEncoding: false, socket: null, stream: null });
  }

  get isOn() {
    return this.stream !== null;
  }

  /** Frames of a camera go to the server, or, with `landmarks`, only the rows made of them here. */
  async start(deviceId, landmarks = null) {
    if (!navigator.mediaDevices) {
      this.told.failed("Browsers give a camera only to pages over https, or from this very machine (localhost).");
      return;
    }
    const ideal = { width: { ideal: LONGEST_SIDE }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ video: deviceId ? { ...ideal, deviceId: { exact: deviceId } } : ideal });
    } catch (error) {
      this.told.failed(CAMERAS[error.name] ?? `The camera cannot be started (${error.message}).`);
      return;
    }
    this.video.srcObject = this.stream;
    const [track] = this.stream.getVideoTracks();
    track.addEventListener("ended", () => this.stop());
    this.landmarks = landmarks;
    await this.video.play();
    if (landmarks && !(await this.#ready(landmarks))) return;
    this.#connect(Math.min(120, Math.max(1, track.getSettings().frameRate || 30)));
  }

  /** No more frames; what the server still says of the last is told. */
  stop() {
    this.stream?.getTracks().forEach((each) => each.stop());
    this.stream = null;
    this.video.srcObject = null;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send("end");
    else this.socket?.close();
    this.told.stopped();
  }

  async #ready(landmarks) {
    this.told.state("Loading MediaPipe into this browser …");
    try {
      await landmarks.start();
      await landmarks.row(this.video); // the first takes by far the longest, and the server waits for nobody
    } catch (error) {
      this.told.failed(`Landmarks cannot be made in this browser (${error.message}).`);
      this.stop();
    }
    return this.isOn;
  }

  #connect(rate) {
    const place = new URL(`live?rate_hz=${rate.toFixed(3)}&send=${this.landmarks ? "rows" : "frames"}`, location.href);
    place.protocol = place.protocol.replace("http", "ws");
    const socket = new WebSocket(place);
    this.socket = socket;
    this.flying = 0;
    this.told.state("Connecting …");
    socket.addEventListener("open", () => {
      this.told.state("The server gets its model ready …");
      this.#pump();
    });
    socket.addEventListener("message", (message) => this.#heard(socket, JSON.parse(message.data)));
    socket.addEventListener("close", (end) => {
      if (this.socket !== socket) return;
      this.socket = null;
      if (end.code !== 1000) this.told.failed((ENDS[end.code] ?? "The session ended.") + (end.reason ? ` (${end.reason})` : ""));
      if (this.isOn) this.stop();
    });
  }

  #heard(socket, event) {
    if (this.socket !== socket) return;
    this.flying = Math.max(0, this.flying - 1);
    if (event.error) this.told.failed(`The server says: ${event.error}.`);
    else this.told.event(event);
  }

  #pump() {
    if (!this.isOn || this.socket?.readyState !== WebSocket.OPEN) return;
    if (this.flying < MOST && !this.isEncoding) this.#send(this.socket);
    const next = () => this.#pump();
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(next);
    else requestAnimationFrame(next);
  }

  async #send(socket) {
    if (!this.video.videoWidth) return;
    this.isEncoding = true;
    let message = null;
    try {
      message = await (this.landmarks ? this.landmarks.row(this.video) : this.#jpeg());
    } catch (error) {
      this.told.failed(`Landmarks cannot be made in this browser (${error.message}).`);
      if (this.isOn) this.stop();
    }
    this.isEncoding = false;
    if (!message || !this.isOn || socket.readyState !== WebSocket.OPEN) return;
    this.flying += 1;
    socket.send(message);
  }

  #jpeg() {
    const { videoWidth, videoHeight } = this.video;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    this.canvas.width = Math.round(videoWidth * scale);
    this.canvas.height = Math.round(videoHeight * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    return new Promise((done) => this.canvas.toBlob(done, "image/jpeg", QUALITY));
  }
}
