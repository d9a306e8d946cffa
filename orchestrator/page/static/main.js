// The page: submits a job, shows its events, and ends it on request. Without a job store, it solves directly.

import { Lanes } from "./candidates.js";
import { mathText } from "./mathtext.js";
import { ProblemError, followJob, followSolve, request } from "./stream.js";

const at = (id) => document.getElementById(id);
const REASONS = {
  accepted: "the critic accepted it", agreed: "the vote agreed", completed: "the strategy completed",
  rounds: "the rounds were used up", budget: "the budget was spent", deadline: "the time limit was reached",
  answer_now: "you asked for an answer now",
};
const REPLAY_MS = 120;

let run = null; // {job, abort, events, ended}
let lanes = null;

function setStatus(text) {
  at("status").textContent = text;
}

function showError(error) {
  const problem = error instanceof ProblemError ? error.problem : null;
  const fields = (problem?.errors ?? []).map(({ loc, msg }) => `${loc.slice(1).join(".")}: ${msg}`);
  const text = fields.length ? fields.join("; ") : error.message;
  at("alert").textContent = problem?.code ? `${problem.code}: ${text}` : text;
  setStatus("");
}

function clear() {
  lanes = new Lanes(at("lanes"));
  at("alert").textContent = "";
  at("vote-list").replaceChildren();
  for (const id of ["answer", "budget", "votes", "work", "problem-shown"]) at(id).hidden = true;
}

function updateButtons() {
  const running = run !== null && !run.ended;
  at("solve").disabled = running;
  at("stop").disabled = !running;
  at("now").disabled = !(running && run.job);
  at("share").disabled = !(run?.job && run.ended);
  at("replay").disabled = !(run?.ended && run.events.length);
}

function showSpent({ actor, critic, total_tokens }) {
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

function showVotes(groups) {
  at("votes").hidden = false;
  const heaviest = Math.max(...groups.map((group) => group.weight ?? group.votes), 1e-9);
  at("vote-list").replaceChildren(...groups.map((group) => {
    const row = document.createElement("li");
    const [name, bar, fill, count] = ["span", "span", "span", "span"].map((tag) => document.createElement(tag));
    name.append(mathText(group.answer ?? "no answer"));
    bar.className = "bar";
    fill.style.width = `${(100 * (group.weight ?? group.votes)) / heaviest}%`;
    bar.append(fill);
    count.textContent = `${group.votes} vote${group.votes === 1 ? "" : "s"}, weight ${Number(group.weight ?? group.votes).toFixed(2)}`;
    row.append(name, bar, count);
    return row;
  }));
}

function showAnswer(event) {
  at("answer").hidden = false;
  const solution = event.solution.match(/\\boxed\{.*\}/s)?.[0];
  at("answer-text").replaceChildren(mathText(event.answer ?? solution ?? "no answer was found"));
  const sure = event.confidence === null ? "" : `, confidence ${event.confidence.toFixed(2)}`;
  const { seconds, total_tokens } = event.usage;
  at("answer-reason").textContent =
    `${REASONS[event.stop_reason] ?? event.stop_reason}${sure}; ${total_tokens.toLocaleString("en")} tokens, ${seconds.toFixed(1)} s`;
  lanes.select(event.candidates);
  setStatus(event.answer === null ? "Done, without an answer." : `Done: the answer is ${event.answer}.`);
}

const HANDLERS = {
  "solve.started": (event) => {
    run.limit = event.limits.max_tokens;
    at("budget").hidden = at("work").hidden = false;
    setStatus(`Solving with ${event.strategy.name}.`);
  },
  "candidate.started": (event) => {
    lanes.start(event);
    setStatus(event.parent ? `Refining ${event.parent}.` : `Writing ${event.candidate}.`);
  },
  "step.written": (event) => lanes.write(event),
  "step.judged": (event) => {
    lanes.judge(event);
    if (event.label === "incorrect") setStatus(`The critic found an error in step ${event.index} of ${event.candidate}.`);
  },
  "candidate.judged": (event) => lanes.verdict(event),
  "candidate.finished": (event) => lanes.finish(event),
  "votes.changed": (event) => showVotes(event.groups),
  "degraded": (event) => setStatus(`Degraded: ${event.detail}`),
  "solve.finished": showAnswer,
  "solve.failed": (event) => (event.code === "cancelled" ? setStatus("Stopped.") : showError(new ProblemError(event))),
};

function show(event) {
  HANDLERS[event.type]?.(event);
  showSpent(event.spent);
}

function receive(event) {
  run.events.push(event);
  show(event);
}

async function track(work) {
  updateButtons();
  try {
    await work();
  } catch (error) {
    if (run.abort.signal.aborted) setStatus("Stopped.");
    else showError(error);
  }
  run.ended = true;
  updateButtons();
}

function start() {
  clear();
  run = { job: null, abort: new AbortController(), events: [], ended: false, limit: 0 };
  return { key: at("key").value.trim(), signal: run.abort.signal, onEvent: receive, onLost: () => setStatus("The connection was lost; trying again.") };
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
  const options = start();
  await track(async () => {
    const solve = body();
    setStatus("Submitting.");
    try {
      const response = await request("jobs", { method: "POST", body: solve, key: options.key, signal: options.signal });
      run.job = (await response.json()).id;
    } catch (error) {
      if (!(error instanceof ProblemError) || error.problem.status !== 503) throw error;
      setStatus("Jobs are unavailable: closing this page will cancel this solve.");
      await followSolve(solve, options);
      return;
    }
    history.replaceState(null, "", `#job=${run.job}`);
    updateButtons();
    await followJob(run.job, options);
  });
}

async function open(job) {
  const options = start();
  run.job = job;
  await track(async () => {
    const { request: solve } = await (await request(`jobs/${encodeURIComponent(job)}`, options)).json();
    at("problem").value = at("problem-shown").textContent = solve.problem ?? solve.messages.at(-1).content;
    at("problem-shown").hidden = false;
    await followJob(job, options);
  });
}

async function end(method, path, text) {
  try {
    await request(`jobs/${encodeURIComponent(run.job)}${path}`, { method, key: at("key").value.trim() });
    setStatus(text);
  } catch (error) {
    if (error.problem?.code !== "job_finished") showError(error);
  }
}

async function replay() {
  const { job, events } = run;
  clear();
  run = { job, abort: new AbortController(), events, ended: false, limit: 0 };
  updateButtons();
  at("now").disabled = true;
  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const event of events) {
    if (run.abort.signal.aborted) break;
    show(event);
    if (!reducedMotion) await new Promise((resolve) => setTimeout(resolve, REPLAY_MS));
  }
  run.ended = true;
  updateButtons();
}

at("problem-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!at("solve").disabled) submit();
});
at("problem").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("problem-form").requestSubmit();
});
at("now").addEventListener("click", () => end("POST", "/answer-now", "Ending with the best candidate so far."));
at("stop").addEventListener("click", async () => {
  if (run.job && run.events.at(-1)?.type !== "solve.finished") await end("DELETE", "", "Stopping.");
  else run.abort.abort();
});
at("replay").addEventListener("click", replay);
at("share").addEventListener("click", async () => {
  const link = `${location.origin}${location.pathname}#job=${run.job}`;
  try {
    await navigator.clipboard.writeText(link);
    setStatus("The link was copied.");
  } catch {
    setStatus(link);
  }
});

function openLinkedJob() {
  const job = new URLSearchParams(location.hash.slice(1)).get("job");
  if (job && job !== run?.job) open(job);
}
window.addEventListener("hashchange", openLinkedJob);

async function load() {
  clear();
  updateButtons();
  const strategies = await (await request("strategies")).json();
  at("strategy").replaceChildren(...strategies.map(({ name }) => new Option(name, name, name === "refine", name === "refine")));
  openLinkedJob();
}
load().catch(showError);
