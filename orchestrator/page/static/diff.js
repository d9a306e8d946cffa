// A diff of two texts by words, as kept, removed and added parts (longest common subsequence).

export function diffWords(before, after) {
  const old = before.split(/(\s+)/);
  const now = after.split(/(\s+)/);
  const length = Array.from({ length: old.length + 1 }, () => new Array(now.length + 1).fill(0));
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = now.length - 1; j >= 0; j--)
      length[i][j] = old[i] === now[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
  const parts = [];
  const put = (kind, text) => {
    if (parts.length && parts.at(-1).kind === kind) parts.at(-1).text += text;
    else if (text) parts.push({ kind, text });
  };
  let i = 0;
  let j = 0;
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) put("same", now[j++]), i++;
    else if (i < old.length && (j === now.length || length[i + 1][j] >= length[i][j + 1])) put("del", old[i++]);
    else put("ins", now[j++]);
  }
  return parts;
}

export function diffNodes(before, after) {
  const fragment = document.createDocumentFragment();
  for (const { kind, text } of diffWords(before, after)) {
    if (kind === "same") {
      fragment.append(text);
      continue;
    }
    const node = document.createElement(kind);
    node.textContent = text;
    fragment.append(node);
  }
  return fragment;
}
