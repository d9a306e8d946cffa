// The page: submits a job, shows what happens to it, and ends it when asked. Where jobs cannot be had, it solves directly.

import { Lanes } from "./lanes.js";
import { mathText } from "./mathtext.js";
import { Refused, ask, followJob, followSolve } from "./stream.js";

const at = (id) => document.getElementById(id);
const REASONS = {
  accepted: "the critic accepted it", agreed: "the vote agreed", completed: "everything asked for was done",
  rounds: "the rounds were used up", budget: "the budget was spent", deadline: "the time was up",
  answer_now: "you asked for an answer now",
};
const REPLAY_MS = 120;

let run = null; // {job, abort, events, ended}
let lanes = null;

function say(text) {
  at("status").textContent = text;
}

function complain(error) {
  const problem = error instanceof Refused ? error.problem : null;
  const fields = (problem?.errors ?? []).map((one) => `${one.loc.slice(1).join(".")}: ${one.msg}`);
  const text = fields.length ? fields.join("; ") : error.message;
  at("alert").textContent = problem?.code ? `${problem.code}: ${text}` : text;
  say("");
}

function clear() {
  lanes = new Lanes(at("lanes"));
  at("alert").textContent = "";
  at("vote-list").replaceChildren();
  for (const id of ["answer", "budget", "votes", "work", "problem-shown"]) at(id).hidden = true;
}

function buttons() {
  const running = run !== null && !run.ended;
  at("solve").disabled = running;
  at("stop").disabled = !running;
  at("now").disabled = !(running && run.job);
  at("share").disabled = !(run?.job && run.ended);
  at("replay").disabled = !(run?.ended && run.events.length);
}

function spend({ actor, critic, total_tokens }) {
  const limit = run.limit || total_tokens || 1;
  at("meter-actor").style.width = `${Math.min(100, (100 * actor) / limit)}%`;
  at("meter-critic").style.width = `${Math.min(100, (100 * critic) / limit)}%`;
  at("meter").setAttribute("aria-valuemax", String(limit));
  at("meter").setAttribute("aria-valuenow", String(Math.min(total_tokens, limit)));
  at("meter").setAttribute("aria-valuetext", `${total_tokens} of ${limit} tokens: actor ${actor}, critic ${critic}`);
  at("spent-actor").textContent = actor.toLocaleString("en");
  at("spent-critic").textContent = critic.toLocaleString("en");
  at("limit").textContent = limit.toLocaleString("en");
}

function votes(groups) {
  at("votes").hidden = false;
  const most = Math.max(...groups.map((group) => group.weight ?? group.votes), 1e-9);
  at("vote-list").replaceChildren(...groups.map((group) => {
    const row = document.createElement("li");
    const [name, bar, fill, count] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
    name.append(mathText(group.answer ?? "no answer"));
    bar.className = "bar";
    fill.style.width = `${(100 * (group.weight ?? group.votes)) / most}%`;
    bar.append(fill);
    count.textContent = `${group.votes} vote${group.votes === 1 ? "" : "s"}, weight ${Number(group.weight ?? group.votes).toFixed(2)}`;
    row.append(name, bar, count);
    return row;
  }));
}

function finished(event) {
  at("answer").hidden = false;
  const solution = event.solution.match(/\\boxed\{.*\}/s)?.[0];
  at("answer-text").replaceChildren(mathText(event.answer ?? solution ?? "no answer was found"));
  const sure = event.confidence === null ? "" : `, confidence ${event.confidence.toFixed(2)}`;
  const { seconds, total_tokens } = event.usage;
  at("answer-why").textContent =
    `${REASONS[event.stop_reason] ?? event.stop_reason}${sure}; ${total_tokens.toLocaleString("en")} tokens, ${seconds.toFixed(1)} s`;
  lanes.select(event.candidates);
  say(`Done: the answer is ${event.answer ?? "missing"}.`);
}

const SHOW = {
  "solve.started": (event) => {
    run.limit = event.limits.max_tokens;
    at("budget").hidden = at("work").hidden = false;
    say(`Solving with ${event.strategy.name}.`);
  },
  "candidate.started": (event) => {
    lanes.start(event);
    say(event.parent ? `Refining ${event.parent}.` : `Writing ${event.candidate}.`);
  },
  "step.written": (event) => lanes.write(event),
  "step.judged": (event) => {
    lanes.judge(event);
    if (event.label === "incorrect") say(`The critic found a mistake in step ${event.index} of ${event.candidate}.`);
  },
  "candidate.judged": (event) => lanes.verdict(event),
  "candidate.finished": (event) => lanes.finish(event),
  "votes.changed": (event) => votes(event.groups),
  "degraded": (event) => say(`Degraded: ${event.detail}`),
  "solve.finished": finished,
  "solve.failed": (event) => (event.code === "cancelled" ? say("Stopped.") : complain(new Refused(event))),
};

function show(event) {
  SHOW[event.type]?.(event);
  spend(event.spent);
}

function take(event) {
  run.events.push(event);
  show(event);
}

async function working(work) {
  buttons();
  try {
    await work();
  } catch (error) {
    if (run.abort.signal.aborted) say("Stopped.");
    else complain(error);
  }
  run.ended = true;
  buttons();
}

function begin() {
  clear();
  run = { job: null, abort: new AbortController(), events: [], ended: false, limit: 0 };
  return { key: at("key").value.trim(), signal: run.abort.signal, onEvent: take, onLost: () => say("The connection was lost; trying again.") };
}

function body() {
  const number = (id) => (at(id).value ? Number(at(id).value) : undefined);
  const options = at("options").value.trim();
  return {
    problem: at("problem").value,
    strategy: { name: at("strategy").value, ...(options ? JSON.parse(options) : {}) },
    budget: { max_tokens: number("tokens"), max_seconds: number("seconds") },
    trace: "full",
  };
}

async function submit() {
  const how = begin();
  await working(async () => {
    const asked = body();
    say("Submitting.");
    try {
      const response = await ask("jobs", { method: "POST", body: asked, key: how.key, signal: how.signal });
      run.job = (await response.json()).id;
    } catch (error) {
      if (!(error instanceof Refused) || error.problem.status !== 503) throw error;
      say("Jobs cannot be had just now: this solve ends with this page.");
      await followSolve(asked, how);
      return;
    }
    history.replaceState(null, "", `#job=${run.job}`);
    buttons();
    await followJob(run.job, how);
  });
}

async function open(job) {
  const how = begin();
  run.job = job;
  await working(async () => {
    const { request } = await (await ask(`jobs/${encodeURIComponent(job)}`, how)).json();
    at("problem").value = at("problem-shown").textContent = request.problem ?? request.messages.at(-1).content;
    at("problem-shown").hidden = false;
    await followJob(job, how);
  });
}

async function end(method, path, text) {
  try {
    await ask(`jobs/${encodeURIComponent(run.job)}${path}`, { method, key: at("key").value.trim() });
    say(text);
  } catch (error) {
    if (error.problem?.code !== "job_finished") complain(error);
  }
}

async function replay() {
  const { job, events } = run;
  clear();
  run = { job, abort: new AbortController(), events, ended: false, limit: 0 };
  buttons();
  at("now").disabled = true;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const event of events) {
    if (run.abort.signal.aborted) break;
    show(event);
    if (!still) await new Promise((resolve) => setTimeout(resolve, REPLAY_MS));
  }
  run.ended = true;
  buttons();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!at("solve").disabled) submit();
});
at("problem").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
});
at("now").addEventListener("click", () => end("POST", "/answer-now", "Ending with the best so far."));
at("stop").addEventListener("click", async () => {
  if (run.job && run.events.at(-1)?.type !== "solve.finished") await end("DELETE", "", "Stopping.");
  else run.abort.abort();
});
at("replay").addEventListener("click", replay);
at("share").addEventListener("click", async () => {
  const link = `${location.origin}${location.pathname}#job=${run.job}`;
  try {
    await navigator.clipboard.writeText(link);
    say("The link was copied.");
  } catch {
    say(link);
  }
});

function linked() {
  const job = new URLSearchParams(location.hash.slice(1)).get("job");
  if (job && job !== run?.job) open(job);
}
window.addEventListener("hashchange", linked);

async function load() {
  clear();
  buttons();
  const strategies = await (await ask("strategies")).json();
  at("strategy").replaceChildren(...strategies.map(({ name }) => new Option(name, name, name === "refine", name === "refine")));
  linked();
}
load().catch(complain);
