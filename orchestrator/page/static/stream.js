// Server-sent events over fetch, which unlike EventSource can send a body and an access key.

export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail ?? problem.title ?? "the service refused the request");
    this.problem = problem;
  }
}

export async function request(path, { method = "GET", body, key, signal, headers = {} } = {}) {
  const sent = { ...headers };
  if (body !== undefined) sent["content-type"] = "application/json";
  if (key) sent.authorization = `Bearer ${key}`;
  const response = await fetch(path, { method, headers: sent, body: body && JSON.stringify(body), signal });
  if (!response.ok) throw new ProblemError(await problemOf(response));
  return response;
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { status: response.status, detail: `the service answered ${response.status}` };
  }
}

// Yields each event as {id, data}.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

function parse(block) {
  let id = null;
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) id = line.slice(4);
    if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return data.length ? { id, data: JSON.parse(data.join("\n")) } : null;
}

const ENDS = new Set(["solve.finished", "solve.failed"]);

// Follows a job to its end; after a lost connection, resumes behind the last event received.
export async function followJob(job, { key, signal, onEvent, onLost }) {
  let last = null;
  let wait = 250;
  for (;;) {
    try {
      const headers = last === null ? {} : { "last-event-id": last };
      const response = await request(`jobs/${encodeURIComponent(job)}/events`, { key, signal, headers });
      for await (const event of events(response)) {
        last = event.id;
        wait = 250;
        await onEvent(event.data);
        if (ENDS.has(event.data.type)) return;
      }
    } catch (error) {
      const permanent = error instanceof ProblemError && error.problem.status !== 503;
      if (signal.aborted || permanent) throw error;
    }
    onLost();
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, 5000);
    signal.throwIfAborted();
  }
}

// Follows a solve without a job; the solve is cancelled when the connection closes.
export async function followSolve(body, { key, signal, onEvent }) {
  const response = await request("solve", { method: "POST", body: { ...body, stream: true }, key, signal });
  for await (const event of events(response)) await onEvent(event.data);
}
