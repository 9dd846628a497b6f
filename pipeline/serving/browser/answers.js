/** What the server answers; a refusal becomes one sentence for people, with the server's own reason behind it. */

const REFUSALS = {
  400: "The file did not arrive whole. Send it again.",
  408: "The file took too long to arrive. Send a shorter one, or try a faster connection.",
  413: "The file is too large.",
  415: "This is no video that the server reads.",
  422: "The server cannot label this.",
  429: "The server is busy. Try again in a moment.",
  500: "The server failed at this.",
  503: "The server is starting or ending. Try again in a moment.",
  504: "The answer took too long. Try a shorter video, or later.",
};

export class Refusal extends Error {}

/** What a server says of itself. */
export const card = () => answered(() => fetch("card"));

/** The answer to a file; nothing is sent of a file that the server would refuse for its size. */
export function send(path, file, limits) {
  if (limits && file.size > limits.max_bytes) {
    throw new Refusal(`${REFUSALS[413]} (${megabytes(file.size)}, at most ${megabytes(limits.max_bytes)} are taken)`);
  }
  const body = new FormData();
  body.append("file", file);
  return answered(() => fetch(path, { method: "POST", body }));
}

/** English of labels. */
export const sentence = async (labels) => (await answered(() => fetch(`sentence?${new URLSearchParams(labels.map((each) => ["label", each]))}`))).sentence;

async function answered(asked) {
  let response;
  try {
    response = await asked();
  } catch {
    throw new Refusal("The server cannot be reached. Does it still run?");
  }
  const said = await response.json().catch(() => ({}));
  if (response.ok) return said;
  const reason = typeof said.detail === "string" ? ` (${said.detail})` : "";
  throw new Refusal((REFUSALS[response.status] ?? `The server answered with status ${response.status}.`) + reason);
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
