"use strict";

// What was recorded: for each scenario its opening, number 0, and behind it what each step came to.
const scenarios = [];
for (const entry of JSON.parse(document.getElementById("recorded").textContent)) {
  if (entry.number === 0) scenarios.push([]);
  scenarios.at(-1).push(entry);
}

const CELL = 8; // bytes
const LEGEND = {
  committed: "committed", busy: "busy", discarded: "discarded", consumed: "consumed: the bytes are still there",
  overwritten: "overwritten unread", lost: "the kernel's word that events were lost", torn: "makes no sense", free: "free",
};
const PAGES = {
  ring: [["Consumer page", "user space reads and writes", ["consumer"]],
    ["Producer page", "user space reads", ["producer", "pending"]]],
  overwrite: [["Consumer page", "user space reads and writes", ["consumer"]],
    ["Producer page", "user space reads", ["producer", "pending", "overwrite"]]],
  user: [["Consumer page", "user space reads", ["consumer"]],
    ["Producer page", "user space reads and writes", ["producer"]]],
  perf: [["Control page", "user space reads and writes", ["consumer", "producer"]]],
};
const MARKS = { consumer: "C", producer: "P", overwrite: "O" };
const PERF_TYPES = { 2: "LOST", 9: "SAMPLE" };

let chosen = 0; // the scenario
let at = 0; // 0: its opening; 2n - 1: step n is expected; 2n: it has happened

const byId = (id) => document.getElementById(id);
const hex = (word) => "0x" + word.toString(16).padStart(8, "0");
const seen = (state) => [...state.past, ...state.records];
const wraps = (record, state) => record.offset + record.stride > state.size;

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== ""));
  return made;
}

function bytesOf(record) {
  return record.payload.match(/../g)?.map((digits) => parseInt(digits, 16)) ?? [];
}

// The readable start of a payload, without the dots that fill it up.
function textOf(record) {
  const text = String.fromCharCode(...bytesOf(record)).match(/^[ -~]*/)[0];
  return (text.replace(/\.+$/, "") || text).slice(0, 24);
}

// ---- The step

function show() {
  const scenario = scenarios[chosen];
  const number = Math.ceil(at / 2);
  const done = Math.floor(at / 2);
  const happened = at > 0 && at % 2 === 0;
  const step = scenario[number];

  byId("title").textContent = scenario[0].title;
  byId("teaches").textContent = scenario[0].teaches;
  if (at === 0) byId("idea").open = true;
  else if (at === 1) byId("idea").open = false;
  byId("where").textContent = at
    ? `Step ${number} of ${step.of}. You see the ring ${happened ? "after" : "before"} it.` : `${scenario[0].of} steps`;
  byId("where").style.setProperty("--done", `${(100 * at) / (2 * scenario[0].of)}%`);
  say("call", at ? step.call : "");
  say("expectation", at ? step.expectation : "", "Expect");
  say("happened", happened ? step.happened : "", step.as_expected ? "✓ As expected" : "✗ Not as expected");
  say("because", happened ? step.because : "", "Why");
  byId("step").classList.toggle("happened", happened);

  const before = happened ? scenario[number - 1].states : scenario[done].states;
  byId("rings").replaceChildren(
    ...scenario[done].states.map((state, ring) => ringOf(state, before[ring], scenario)), legend(scenario));

  const end = at === 2 * scenario[0].of;
  const following = scenarios[chosen + 1];
  byId("next").textContent = at % 2 ? "What happens?" : !end ? (at ? "Next step" : "Start")
    : following ? `On to ${following[0].scenario}` : "The end";
  disable("first", at === 0);
  disable("back", at === 0);
  disable("last", end);
  disable("next", end && !following);
  [...byId("scenarios").children].forEach((button, index) =>
    button.setAttribute("aria-current", index === chosen ? "true" : "false"));
  history.replaceState(null, "", `#${scenario[0].scenario}-${done}`);
  byId(at === 0 ? "title" : happened ? "happened" : "expectation").scrollIntoView({ block: "nearest" });
}

// Only what is new is written, so that only that is read out.
function say(id, text, label = "") {
  const whole = text && label ? `${label}. ${text}` : text;
  if (byId(id).textContent === whole) return;
  byId(id).replaceChildren(...(text && label ? [make("b", "", `${label}.`), ` ${text}`] : [text]));
}

// Not by `disabled`, which would take the focus away.
function disable(id, off) {
  byId(id).setAttribute("aria-disabled", String(off));
}

// ---- The ring

function ringOf(state, before, scenario) {
  const everything = scenario.flatMap((entry) => entry.states);
  const twice = state.kind !== "perf" && everything.some((one) => seen(one).some((record) => wraps(record, one)));
  const label = () => (state.label ? make("h3", "", state.label) : "");
  const alarm = state.torn ? make("p", "alarm", `! At position ${state.torn_at}: ${state.torn}.`) : "";
  return make("article", "ring",
    make("div", "picture", make("div", "heading", label(), counters(state, before, everything)),
      cells(state, before), twice ? doubled(state) : ""),
    make("div", "details", label(), alarm, pages(state, before), table(state, before)));
}

// A value, and if the step has changed it, what it was.
function value(state, before, field, shown = (one) => String(one)) {
  const now = make("b", "now", shown(state[field]));
  now.dataset.field = field;
  if (before[field] === state[field]) return make("span", "value", now);
  return make("span", "value changed", make("span", "was", shown(before[field])), " → ", now);
}

function counters(state, before, everything) {
  const list = make("dl", "counters");
  const add = (name, ...values) => list.append(make("div", "", make("dt", "", name), make("dd", "", ...values)));
  const meter = make("meter", "");
  Object.assign(meter, { max: state.size, value: state.used, ariaHidden: "true" });
  add("in use", value(state, before, "used"), ` of ${state.size} bytes `, meter);
  add("wake-ups", value(state, before, "notifications"));
  add("lost", value(state, before, "losses"));
  if (state.kind === "overwrite") add("overwritten unread", value(state, before, "overwritten"));
  if (everything.some((one) => one.asleep)) {
    add("consumer", value(state, before, "asleep", (asleep) => (asleep ? "asleep" : "awake")));
  }
  return list;
}

function pages(state, before) {
  const all = PAGES[state.kind].map(([name, access, fields]) => {
    const list = make("dl", "");
    for (const field of fields) {
      const mark = MARKS[field] ? make("i", `mark ${field}`, MARKS[field]) : "";
      const offset = make("small", "", ` offset ${state[field] % state.size}`);
      list.append(make("div", "", make("dt", "", mark, `${field} position`),
        make("dd", "", value(state, before, field), offset)));
    }
    return make("section", "page", make("h4", "", name, " ", make("small", "", access)), list);
  });
  return make("div", "pages", ...all);
}

// The data area, a cell for each 8 bytes, with the positions above and below.
function cells(state, before) {
  const strip = make("div", "cells");
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", described(state));
  for (let offset = 0; offset < state.size; offset += CELL) {
    const marks = (fields) => fields
      .filter((field) => state[field] !== null && state[field] % state.size === offset)
      .map((field) => make("i", `mark ${field}` + (state[field] === before[field] ? "" : " moved"), MARKS[field]));
    strip.append(make("div", "column", make("div", "above", ...marks(["consumer", "overwrite"])),
      cell(state, before, offset),
      make("div", "below", ...marks(["producer"]), make("small", "", String(offset)))));
  }
  return strip;
}

function described(state) {
  const records = seen(state).map((record) =>
    `${record.name || "a record"}, ${record.state}, ${record.stride} bytes from offset ${record.offset}`);
  return `Data area of ${state.size} bytes: ${records.join("; ") || "empty"}.`;
}

function cell(state, before, offset) {
  const distance = (record) => (offset - record.offset + state.size) % state.size;
  const record = seen(state).find((one) => distance(one) < one.stride);
  if (!record) {
    const torn = state.torn && (offset - state.torn_at % state.size + state.size) % state.size
      < state.producer - state.torn_at;
    return make("div", torn ? "cell torn" : "cell free", torn ? "?" : "");
  }
  const start = distance(record);
  const made = start ? payload(record, start, state) : header(record, state);
  made.classList.add("cell", record.state);
  if (start + CELL === record.stride) made.classList.add("end");
  if (change(record, before)) made.classList.add("changed");
  return made;
}

function header(record, state) {
  const flag = state.kind === "perf" ? PERF_TYPES[record.word] : record.busy ? "BUSY" : record.discard ? "DISC" : "";
  return make("div", "header", make("b", "", record.name), make("span", "flag", flag),
    make("span", "", String(state.kind === "perf" ? record.second_word : record.length)));
}

// Eight bytes, in two rows of four; those behind the payload are padding.
function payload(record, start, state) {
  const made = make("div", "payload");
  const bytes = bytesOf(record);
  const lead = state.kind === "perf" && record.state !== "lost" ? 4 : 0; // the length word of a sample
  for (let number = start - CELL - lead; number < start - lead; number++) {
    const byte = bytes[number];
    if (number < 0) made.append(make("i", "length", ""));
    else if (byte === undefined) made.append(make("i", "padding", ""));
    else if (byte > 32 && byte < 127) made.append(make("i", "", String.fromCharCode(byte)));
    else made.append(make("i", "number", String(byte % 1000)));
  }
  return made;
}

// The same bytes at offsets from `size` on: a record that passes the end is in one piece.
function doubled(state) {
  const strip = make("div", "doubled");
  for (const record of seen(state)) {
    for (const begin of [record.offset - state.size, record.offset, record.offset + state.size]) {
      const low = Math.max(0, begin), high = Math.min(2 * state.size, begin + record.stride);
      if (low >= high) continue;
      const block = make("div", `block ${record.state}`, record.name);
      block.classList.toggle("again", begin !== record.offset);
      block.style.left = `${(50 * low) / state.size}%`;
      block.style.width = `${(50 * (high - low)) / state.size}%`;
      strip.append(block);
    }
  }
  const over = seen(state).find((record) => wraps(record, state));
  const where = over
    ? `${over.name} is in one piece, ${over.offset} to ${over.offset + over.stride - 1}.`
    : "no record passes the end now.";
  const halves = make("div", "halves", make("small", "", `0 to ${state.size - 1}`),
    make("small", "", `${state.size} to ${2 * state.size - 1}, again`));
  strip.setAttribute("aria-hidden", "true");
  return make("figure", "", make("figcaption", "", make("b", "", "Mapped twice: "), where),
    strip, halves);
}

// "new", or the state that a record was in if the step has changed anything of it, or "".
function change(record, before) {
  const old = seen(before).find((one) => one.position === record.position);
  if (!old) return "new";
  return JSON.stringify(old) === JSON.stringify(record) ? "" : old.state === record.state ? "written" : `was ${old.state}`;
}

function table(state, before) {
  const perf = state.kind === "perf";
  const names = ["record", "state", "payload", "position", "offset", "takes up",
    ...(perf ? ["type", "size"] : ["page offset", "length word", "BUSY", "DISCARD", "length"])];
  const bits = { BUSY: "bit 31", DISCARD: "bit 30", length: "bits 29-0" };
  const cellOf = (tag, name, ...children) => {
    const made = make(tag, "", ...children);
    made.dataset.name = name;
    made.setAttribute("role", tag === "th" ? "columnheader" : "cell");
    return made;
  };
  const rowOf = (...children) => {
    const row = make("tr", "", ...children);
    row.setAttribute("role", "row");
    return row;
  };
  const rows = seen(state).map((record) => {
    const payload = record.state === "lost" ? `${lostOf(record)} lost` : textOf(record);
    const values = [record.name || "-", record.state, payload, record.position, record.offset, record.stride,
      ...(perf ? [PERF_TYPES[record.word], record.second_word]
        : [record.second_word, hex(record.word), Number(record.busy), Number(record.discard), record.length])];
    const row = rowOf(...values.map((one, index) => cellOf("td", names[index], String(one))));
    const tag = change(record, before);
    row.className = tag ? "changed" : "";
    row.classList.toggle("past", state.past.includes(record));
    row.children[1].prepend(make("span", `swatch ${record.state}`));
    if (tag) row.children[1].append(" ", make("em", "", tag));
    return row;
  });
  if (!rows.length) return make("p", "none", "No record to be seen.");
  const made = make("table", "", make("thead", "", rowOf(...names.map((name) => cellOf("th", name, name, bits[name] ? make("small", "", bits[name]) : "")))),
    make("tbody", "", ...rows));
  made.setAttribute("role", "table");
  for (const part of made.children) part.setAttribute("role", "rowgroup");
  return made;
}

// struct { u64 id; u64 lost; }, the number in its low 4 bytes.
function lostOf(record) {
  return bytesOf(record).slice(8, 12).reduceRight((sum, byte) => sum * 256 + byte, 0);
}

function legend(scenario) {
  const states = scenario.flatMap((entry) => entry.states);
  const found = new Set(states.flatMap((state) => seen(state).map((record) => record.state)));
  if (states.some((state) => state.torn)) found.add("torn");
  const items = Object.keys(LEGEND).filter((name) => name === "free" || found.has(name))
    .map((name) => make("li", "", make("span", `swatch ${name}`), LEGEND[name]));
  const positions = ["consumer", ...(states[0].kind === "overwrite" ? ["overwrite"] : []), "producer"]
    .map((name) => make("li", "", make("i", `mark ${name}`, MARKS[name]), `${name} position`));
  const note = "Above and below the cells: the positions, at the cell to whose left edge they point. A cell is 8 bytes: a header"
    + (states[0].kind === "perf" ? " (name, type, size)" : " (name, BUSY or DISCARD, length)") + ", or payload, "
    + "in which small numbers are bytes that are no text, and hatched ones padding. "
    + `The kernel's rings are whole memory pages; these are of ${states[0].size} bytes, that you can see each one.`;
  return make("div", "legend", make("ul", "", ...items, ...positions), make("p", "", note));
}

// ---- Going about

function go(to) {
  const last = 2 * scenarios[chosen][0].of;
  if (to > last && chosen + 1 < scenarios.length) choose(chosen + 1);
  else {
    at = Math.min(Math.max(to, 0), last);
    show();
  }
}

function choose(scenario, step = 0) {
  chosen = scenario;
  at = 2 * Math.min(Math.max(step, 0), scenarios[scenario][0].of);
  byId("idea").open = at === 0;
  show();
}

const ACTIONS = {
  first: () => go(0), back: () => go(at - 1), next: () => go(at + 1), last: () => go(2 * scenarios[chosen][0].of),
};
const KEYS = { ArrowRight: "next", " ": "next", ArrowLeft: "back", Home: "first", End: "last" };

for (const [name, action] of Object.entries(ACTIONS)) byId(name).addEventListener("click", action);

scenarios.forEach((scenario, index) => {
  const key = String((index + 1) % 10);
  const button = make("button", "", make("kbd", "", key), ` ${scenario[0].scenario}`);
  button.type = "button";
  button.addEventListener("click", () => {
    choose(index);
    byId("next").focus(); // so that space goes on
  });
  byId("scenarios").append(button);
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " " && event.target.closest("button, summary")) return; // which space presses already
  const digit = "1234567890".indexOf(event.key);
  if (digit >= 0 && digit < scenarios.length) choose(digit);
  else if (Object.hasOwn(KEYS, event.key)) ACTIONS[KEYS[event.key]]();
  else return;
  event.preventDefault();
});

// ring.html#wrap, ring.html#wrap-4: for links.
function follow() {
  const [name, step] = location.hash.slice(1).split("-");
  choose(Math.max(0, scenarios.findIndex((scenario) => scenario[0].scenario === name)), Number(step) || 0);
}

addEventListener("hashchange", follow);
follow();
