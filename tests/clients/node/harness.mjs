// `node CLIENT.mjs URL CASE...` prints what the client saw in each case: one JSON object, one line.

export const baseURL = process.argv[2];
export const messages = [{ role: "user", content: "Add 12 and 30 and 7." }];
export const refine = "counterpoint-refine";
export const strategy = { name: "best_of_n", n: 3, select: "majority", stop_early: false };

// Content and reasoning as they came, joined, and the order of the two kinds without repetitions.
export class Heard {
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

// Says that the answer was abandoned, and stays, so that it is not the end of the process that closes the connection.
export async function abandoned() {
  say({ abandoned: true });
  for await (const _ of process.stdin);
}

export async function run(cases) {
  for (const name of process.argv.slice(3)) {
    const seen = await cases[name]();
    if (seen !== undefined) say(seen);
  }
}

function say(seen) {
  process.stdout.write(`${JSON.stringify(seen)}\n`);
}
