// `node CLIENT.mjs URL CASE...` runs the cases and prints the result of each as one line of JSON.

export const baseURL = process.argv[2];
export const messages = [{ role: "user", content: "Add 12 and 30 and 7." }];
export const refine = "counterpoint-refine";
export const strategy = { name: "best_of_n", n: 3, select: "majority", stop_early: false };

// Joins the deltas of reasoning and content, and records the order of the two kinds without repetitions.
export class Transcript {
  text = { reasoning: "", content: "" };
  kinds = [];

  add(kind, text) {
    if (text === undefined || text === null) return;
    this.text[kind] += text;
    if (this.kinds.at(-1) !== kind) this.kinds.push(kind);
  }

  with(more) {
    return { ...this.text, kinds: this.kinds, ...more };
  }
}

// Reports that the response was abandoned and keeps the process alive, so that its exit does not close the connection.
export async function abandoned() {
  print({ abandoned: true });
  for await (const _ of process.stdin);
}

export async function run(cases) {
  for (const name of process.argv.slice(3)) {
    const result = await cases[name]();
    if (result !== undefined) print(result);
  }
}

function print(result) {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
