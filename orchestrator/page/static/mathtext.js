// Text that a model wrote, as nodes and never as markup. KaTeX renders mathematics in \( \), \[ \], $$ and \boxed{}.

const MATH = /\\\((.+?)\\\)|\\\[(.+?)\\\]|\$\$(.+?)\$\$|(\\boxed\{(?:[^{}]|\{[^{}]*\})*\})/gs;
const LIMITS = { throwOnError: false, trust: false, strict: "ignore", maxExpand: 100, maxSize: 10 };

export function mathText(text) {
  const fragment = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(MATH)) {
    fragment.append(text.slice(end, match.index), typeset(match[1] ?? match[2] ?? match[3] ?? match[4], match[0]));
    end = match.index + match[0].length;
  }
  fragment.append(text.slice(end));
  return fragment;
}

function typeset(tex, source) {
  const node = document.createElement("span");
  if (window.katex === undefined) node.textContent = source;
  else window.katex.render(tex, node, LIMITS);
  return node;
}
