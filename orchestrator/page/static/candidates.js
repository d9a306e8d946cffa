// Candidates as lanes: steps as they are written, labels as they are judged, refinements as diffs.

import { diffNodes } from "./diff.js";
import { mathText } from "./mathtext.js";

const SIGNS = { correct: "✓ correct", incorrect: "✗ incorrect", unsure: "? unsure" };
const ENDINGS = { length: "truncated", cancelled: "cancelled", failed: "failed" };

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

export class Lanes {
  constructor(root) {
    this.root = root;
    this.lanes = new Map();
    root.replaceChildren();
  }

  start({ candidate, parent, round }) {
    const title = parent ? `Refinement ${candidate}` : `Draft ${candidate}`;
    const heading = element("h3", "", title);
    heading.id = `lane-${this.lanes.size}`;
    const of = parent ? element("p", "of", `of ${parent}, round ${round}; changes are marked`) : "";
    const steps = element("ol", "");
    const foot = element("p", "verdict");
    const node = element("article", "lane", heading, of, steps, foot);
    node.setAttribute("aria-labelledby", heading.id);
    node.dataset.candidate = candidate;
    this.lanes.set(candidate, { node, steps, foot, parent, texts: [], items: [], answer: null, notes: [] });
    this.root.append(node);
  }

  write({ candidate, index, text }) {
    const lane = this.lanes.get(candidate);
    if (!lane) return;
    lane.texts[index - 1] = text;
    const old = this.lanes.get(lane.parent)?.texts[index - 1];
    const body = element("div", "text", ...this.#body(old, text));
    const item = lane.items[index - 1] ?? element("li", "");
    item.replaceChildren(body);
    item.classList.toggle("kept", old === text);
    lane.items[index - 1] = item;
    lane.steps.append(item);
  }

  #body(old, text) {
    if (old === undefined) return [mathText(text)];
    if (old === text) return [element("span", "visually-hidden", "unchanged: "), mathText(text)];
    return [diffNodes(old, text)];
  }

  judge({ candidate, index, label, explanation }) {
    const item = this.lanes.get(candidate)?.items[index - 1];
    if (!item || !label) return;
    item.classList.remove("correct", "incorrect", "unsure");
    item.classList.add(label);
    const body = item.querySelector(".text");
    item.replaceChildren(body, element("span", "mark", SIGNS[label] ?? label));
    if (explanation) item.append(element("p", "critique", element("b", "", "Critic: "), mathText(explanation)));
  }

  verdict({ candidate, verdict, p_correct, first_error }) {
    const lane = this.lanes.get(candidate);
    if (!lane || !verdict) return;
    const sure = p_correct === null ? "" : `, p(correct) ${p_correct.toFixed(2)}`;
    lane.notes[1] = `Critic: ${SIGNS[verdict] ?? verdict}${first_error ? ` at step ${first_error}` : ""}${sure}`;
    lane.foot.className = `verdict ${verdict}`;
    this.#foot(lane);
  }

  finish({ candidate, answer, finish_reason }) {
    const lane = this.lanes.get(candidate);
    if (!lane) return;
    lane.notes[0] = ENDINGS[finish_reason] ? `${ENDINGS[finish_reason]}.` : answer === null ? "No answer." : `Answer ${answer}.`;
    this.#foot(lane);
  }

  #foot(lane) {
    lane.foot.textContent = lane.notes.filter(Boolean).join(" ");
  }

  select(candidates) {
    for (const { id, selected } of candidates ?? []) {
      const lane = this.lanes.get(id);
      if (!lane || !selected) continue;
      lane.node.classList.add("selected");
      lane.node.querySelector("h3").append(" (chosen)");
    }
  }
}
