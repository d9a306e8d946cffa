// Text that a model wrote, as nodes: never as markup. Mathematics between \( \), \[ \], $$ or in \boxed{} is set by KaTeX.

const MATH = /\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$(.+?)\$\$|(\\boxed\{(?:[^{}]|\{[^{}]*\})*\})/gs;
const LIMITS = { throwOnError: false, trust: false, strict: "ignore", maxExpand: 100, maxSize: 10 };

export function mathText(text) {
  const found = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(MATH)) {
    found.append(text.slice(end, match.index), typeset(match[1] ?? match[2] ?? match[3] ?? match[4], match[0]));
    end = match.index + match[0].length;
  }
  found.append(text.slice(end));
  return found;
}

function typeset(tex, source) {
  const node = document.createElement("span");
  if (window.katex === undefined) node.textContent = source;
  else window.katex.render(tex, node, LIMITS);
  return node;
}
