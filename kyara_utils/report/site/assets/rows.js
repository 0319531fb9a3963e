// The page of rows: the index is searched and filtered here, DataTables shows one page of it, a row opens its story.
"use strict";
const form = document.getElementById("filters");
const state = document.getElementById("state");
const dialog = document.getElementById("story");
const told = document.getElementById("told");
const COLUMNS = ["kind", "source", "rule", "verdict"];
let index, columns, folding, haystack, starts, whole, chosen;

// Text in the form in which both scripts, widths and cases are one (text.normalise.search_text, character by character).
function folder({ from, to }) {
  const map = new Uint16Array(65536).map((_, code) => code);
  for (let i = 0; i < from.length; i++) map[from.charCodeAt(i)] = to.charCodeAt(i);
  return (text) => {
    const codes = new Uint16Array(text.length);
    for (let i = 0; i < codes.length; i++) codes[i] = map[text.charCodeAt(i)];
    return new TextDecoder("utf-16le", { ignoreBOM: true }).decode(codes);
  };
}

// Rows as one folded string with the place where each begins: one search of it takes milliseconds for 100,000 rows.
function joined(texts) {
  const begin = new Uint32Array(texts.length + 1);
  texts.forEach((text, i) => { begin[i + 1] = begin[i] + text.length + 1; });
  return { text: folding(texts.join("\n")), begin };
}

function mark(part, words, found, first) {
  let row = 0;
  for (let at = part.text.indexOf(words); at >= 0; at = part.text.indexOf(words, part.begin[row + 1])) {
    while (part.begin[row + 1] <= at) row++;
    found[first + row] = 1;
    if (part.begin[row + 1] >= part.text.length) break;
  }
}

function search(words) {
  const found = new Uint8Array(index.rows);
  mark(haystack, words, found, 0);
  if (form.whole.checked && whole) whole.forEach((part, n) => mark(part, words, found, n * index.texts));
  return found;
}

function rows() {
  const words = folding(form.search.value.trim());
  const hits = words ? search(words) : null;
  const codes = COLUMNS.map((name) => [columns[name].codes, columns[name].values.indexOf(form[name].value)])
    .filter((_, i) => form[COLUMNS[i]].value);
  const tag = form.tag.value ? columns.tags.values.indexOf(form.tag.value) : -1;
  const [low, high] = [form.low.value, form.high.value].map((text) => (text === "" ? null : Number(text)));
  const found = [];
  for (let i = 0; i < index.rows; i++) {
    if (hits && !hits[i]) continue;
    if (codes.some(([column, code]) => column[i] !== code)) continue;
    if (tag >= 0 && !columns.tags.rows[i].includes(tag)) continue;
    const score = columns.score[i];
    if ((low !== null || high !== null) && (score === null || (low !== null && score < low) || (high !== null && score > high))) continue;
    found.push(i);
  }
  return found;
}

const valueOf = (name, i) => (name === "score" || name === "question" || name === "id" ? columns[name][i] : columns[name].values[columns[name].codes[i]]);

function sorted(found, { name, dir }) {
  const sign = dir === "desc" ? -1 : 1;
  const values = new Map();
  for (const i of found) values.set(i, valueOf(name, i) ?? -Infinity);
  return found.sort((a, b) => (values.get(a) < values.get(b) ? -sign : values.get(a) > values.get(b) ? sign : a - b));
}

function page(request, answer) {
  const order = request.order.find((one) => one.dir);
  chosen = rows();
  const list = order ? sorted(chosen.slice(), { name: request.columns[order.column].name, dir: order.dir }) : chosen;
  const end = request.length < 0 ? list.length : request.start + request.length;
  answer({ draw: request.draw, recordsTotal: index.rows, recordsFiltered: list.length, data: list.slice(request.start, end).map((i) => ({ i })) });
  state.textContent = `${list.length.toLocaleString("en")} of ${index.rows.toLocaleString("en")} rows`;
}

function words(text, lang) {
  const node = document.createElement("div");
  Object.assign(node, { className: "words", lang: lang || "zh-Hant", textContent: text });
  return node;
}

function column(name, minor) {
  const render = ({ i }) => {
    const node = document.createElement(name === "question" ? "button" : "span");
    node.textContent = name === "score" ? columns.score[i] ?? "" : valueOf(name, i) || (name === "question" ? columns.id[i] : "");
    if (name === "question") Object.assign(node, { type: "button", lang: valueOf("lang", i) || "zh-Hant", onclick: () => { location.hash = columns.id[i]; } });
    return node;
  };
  return { name, title: name, data: null, render: (_, type, row) => (type === "display" ? render(row) : ""), className: minor ? "minor" : "", orderable: name !== "question" };
}

async function searchWhole() {
  if (!form.whole.checked || whole) return;
  const parts = [];
  for (let n = 0; n * index.texts < index.rows; n++) {
    state.textContent = `Reading whole rows: ${(n * index.texts).toLocaleString("en")} of ${index.rows.toLocaleString("en")} …`;
    parts.push(joined((await kyara.load(`texts-${n}`)).map((text) => text.replaceAll("\n", " "))));
  }
  whole = parts;
}

// A row's story, when the address ends in its id; rows of one id are told one after the other.
async function tell() {
  const id = decodeURIComponent(location.hash.slice(1));
  const places = id ? columns.id.flatMap((one, i) => (one === id ? [i] : [])) : [];
  if (!places.length) { if (dialog.open) dialog.close(); return; }
  told.replaceChildren();
  for (const i of places) {
    const pages = await kyara.load(`stories-${Math.floor(i / index.stories)}`);
    told.insertAdjacentHTML("beforeend", pages[i % index.stories]);  // escaped by the template; scripts are forbidden
  }
  for (const one of told.querySelectorAll("details.passage")) one.addEventListener("toggle", () => one.open && fill(one));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  told.querySelectorAll("details.passage").forEach(name);
}

const passage = async (id) => (await kyara.load(`passages-${kyara.bucket(id, index.buckets)}`))[id];

async function name(one) {
  const found = await passage(one.dataset.passage);
  if (!found) return;
  const parts = [found.title || one.dataset.passage, found.heading].filter(Boolean);  // passages of one article differ by it
  one.querySelector("summary").firstChild.textContent = `${parts.join(" · ")} `;
}

async function fill(one) {
  if (one.querySelector(".words")) return;
  const found = await passage(one.dataset.passage);
  const where = document.createElement("small");
  where.textContent = found ? [found.path, found.heading, one.dataset.passage].filter(Boolean).join(" · ") : "This passage is in no table of the run any more.";
  one.append(where);
  if (found) one.append(words(found.text, found.lang));
}

// The sentence of a passage that shares most pairs of characters with what was said before the citation.
function highlight(box, claim) {
  const pairs = (text) => new Set(Array.from({ length: Math.max(0, text.length - 1) }, (_, i) => text.slice(i, i + 2)));
  const said = pairs(folding(claim));
  const sentences = box.textContent.match(/[^。！？!?\n]+[。！？!?\n]*/g) ?? [];
  const share = (text) => { const own = [...pairs(folding(text))]; return own.filter((pair) => said.has(pair)).length / Math.sqrt(own.length || 1); };
  const best = sentences.map(share).reduce((top, value, i, all) => (value > all[top] ? i : top), 0);
  box.replaceChildren(...sentences.map((text, i) => {
    const node = document.createElement(i === best ? "mark" : "span");
    node.textContent = text;
    return node;
  }));
}

told.addEventListener("click", async ({ target }) => {
  if (!target.matches("button.cite")) return;
  const one = told.querySelector(`details.passage[data-passage="${CSS.escape(target.dataset.cite)}"]`);
  if (!one) return;
  const before = target.previousSibling?.textContent ?? "";
  one.open = true;
  await fill(one);
  const box = one.querySelector(".words");
  if (box) highlight(box, before.trimEnd().split(/[。！？\n]/).filter(Boolean).at(-1) ?? "");
  one.querySelector("summary").focus();
  (one.querySelector("mark") ?? one).scrollIntoView({ block: "center" });
});

async function begin() {
  index = await kyara.load("index");
  columns = index.columns;
  folding = folder(index.fold);
  const table = new DataTable("#rows", {
    serverSide: true, ajax: page, processing: false, searching: false, order: [], pageLength: 25, lengthMenu: [25, 100, 500],
    columns: [column("question"), column("kind"), column("source", true), column("rule", true), column("verdict", true), column("score", true)],
    language: { emptyTable: "No row is like that.", zeroRecords: "No row is like that.", lengthMenu: "_MENU_ rows a page", info: "" },
  });
  haystack = joined(columns.question.map((text, i) => `${text} ${columns.id[i]}`));
  const draw = async () => { await searchWhole(); table.ajax.reload(); };
  let timer;
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(draw, 120); });
  form.addEventListener("reset", () => setTimeout(draw));
  form.addEventListener("submit", (event) => event.preventDefault());
  dialog.addEventListener("close", () => { if (location.hash) history.pushState(null, "", location.pathname); });
  window.addEventListener("hashchange", tell);
  await tell();
  document.documentElement.dataset.ready = "yes";
}

begin().catch((error) => { state.textContent = String(error.message ?? error); });
