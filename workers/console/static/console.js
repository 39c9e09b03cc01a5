// The console: one stream of updates in, charts and one tile a camera out. No framework: each update
// touches only what changed, and the browser skips tiles that are not on the screen.

const KEPT_S = 300;
const PARTS = ["rgb", "depth", "ir", "rgb+depth", "rgb+ir", "depth+ir", "rgb+depth+ir"]; // of the evidence
const CLEAR = 5; // log odds from which a bar is full
const WORDS = {
  bona_fide: "bona fide", attack: "attack", no_decision: "no decision", expired: "expired",
  bad_signature: "bad signature", unknown_camera: "unknown camera", replayed: "replayed",
  seq_memory_full: "seq memory full", over_quota: "over quota", malformed: "malformed",
  undecodable: "undecodable", too_large: "too large", modality_missing: "modality missing",
  low_quality: "low quality", worker_failed: "worker failed",
};
const $ = (id) => document.getElementById(id);
const word = (name) => WORDS[name] ?? String(name).replaceAll("_", " ");
const { format: clock } = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

// ---------------------------------------------------------------- charts
const style = getComputedStyle(document.documentElement);
let colours = new Map();
const colour = (name) => {
  if (!colours.has(name)) colours.set(name, style.getPropertyValue(`--${name}`).trim());
  return colours.get(name);
};
const charts = [];

function axes(unit) {
  const base = { stroke: () => colour("soft"), grid: { stroke: () => colour("faint"), width: 1 }, ticks: { show: false }, font: "10px system-ui, sans-serif" };
  return [
    { ...base, grid: { show: false }, size: 18, gap: 2, space: 70, values: (_, ats) => ats.map((at) => clock(at * 1000).slice(0, ats.at(-1) - ats[0] < 600 && ats.length > 4 ? 8 : 5)) },
    { ...base, size: 34, gap: 4, space: 26, values: (_, values) => values.map((value) => `${value}${unit}`) },
  ];
}

function chart(id, series, unit = "", most = 1) {
  const place = $(id);
  const made = new uPlot({
    width: place.clientWidth, height: place.clientHeight, padding: [6, 4, 0, 0],
    cursor: { show: false }, legend: { show: false }, axes: axes(unit),
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(most, high * 1.1)] } },
    series: [{}, ...series.map(([name, shade, dash]) => ({
      label: name, stroke: () => colour(shade), width: 1.5, dash, points: { show: false }, spanGaps: true,
    }))],
  }, [[], ...series.map(() => [])], place);
  charts.push([made, place]);
  return made;
}

const fps = chart("chart-fps", [["bona fide", "bona"], ["attack", "attack"], ["no decision", "none"]], "", 2);
const backlog = chart("chart-backlog", [["waiting", "wait"], ["pending", "soft", [3, 3]]], "", 4);
const latency = chart("chart-latency", [["p50", "bona"], ["p99", "wait"]], "", 20);
const running = chart("chart-replicas", [["running", "bona"]], "", 3);
new ResizeObserver(() => {
  for (const [made, place] of charts) {
    if (place.clientWidth) made.setSize({ width: place.clientWidth, height: place.clientHeight });
  }
}).observe(document.querySelector("main"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours = new Map();
  charts.forEach(([made]) => made.redraw());
});

const seconds = new Map();
let serverAhead = 0;

function drawCharts() {
  const rows = [...seconds.values()];
  const column = (index) => rows.map((row) => row[index]);
  const at = column(0);
  fps.setData([at, column(1), column(2), column(3)]);
  latency.setData([at, column(4), column(5)]);
  backlog.setData([at, column(6), column(7)]);
  running.setData([at, column(8)]);
  const recent = rows.slice(-3);
  const total = recent.reduce((sum, row) => sum + row[1] + row[2] + row[3], 0) / Math.max(1, recent.length);
  const last = (index) => rows.findLast((row) => row[index] !== null)?.[index];
  const shown = (value, unit) => (value === undefined ? "–" : `${value}${unit}`);
  set($("now-fps"), `${total.toFixed(total < 10 ? 1 : 0)}/s`);
  set($("now-waiting"), shown(last(6), " waiting"));
  set($("now-p99"), `${shown(last(4), "")} / ${shown(last(5), " ms")}`);
}

// ---------------------------------------------------------------- facts
function bars(table, rows, format, outcomeOf = () => "") {
  const body = table.tBodies[0];
  const most = Math.max(1e-9, ...rows.map(([, value]) => value));
  while (body.rows.length > Math.max(rows.length, 1)) body.deleteRow(-1);
  if (!rows.length) {
    if (body.rows.length !== 1 || body.rows[0].cells.length !== 1) {
      body.replaceChildren(make("tr"));
      body.rows[0].append(make("td", "", "nothing yet"));
    }
    return;
  }
  rows.forEach(([name, value, title], index) => {
    let row = body.rows[index];
    if (!row || row.cells.length !== 3) {
      row?.remove();
      row = body.insertRow(index);
      const head = make("th");
      head.scope = "row";
      const fill = make("td", "fill");
      fill.append(make("i"));
      row.append(head, fill, make("td"));
    }
    row.dataset.outcome = outcomeOf(name);
    set(row.cells[0], title ?? name);
    row.cells[0].title = name;
    row.cells[1].firstChild.style.width = `${(100 * value) / most}%`;
    set(row.cells[2], format(value));
  });
}

function drawFacts(update) {
  const reasons = Object.entries(update.reasons).map(([name, count]) => [name, count, word(name)]);
  bars($("reasons"), reasons.slice(0, 6), String, (name) => (name === "bona_fide" || name === "attack" ? name : "no_decision"));
  const replicas = Object.entries(update.replicas).sort();
  const shorter = (name) => name.split("-")[0].split("#").at(-1);
  bars($("replicas"), replicas.slice(0, 6).map(([name, rate]) => [name, rate, shorter(name)]), (rate) => rate.toFixed(1));
  bars($("models"), Object.entries(update.models).slice(0, 4), String);
  const { runs_on: runsOn, candidate } = update.lineup ?? {};
  set($("lineup"), [runsOn, candidate && `${candidate} is tried beside it`].filter(Boolean).join(" · "));
  const states = Object.entries(update.states);
  set($("now-replicas"), states.length ? states.map(([state, count]) => `${count} ${state.toLowerCase()}`).join(", ") : "–");
  $("troubles").replaceChildren(...update.troubles.map((text) => make("li", "", text)));
  drawScores(update.scores);
}

function drawScores({ recent, before, distance }) {
  const place = $("scores");
  if (!place.children.length) {
    recent.forEach((_, index) => {
      const bin = make("span");
      bin.title = `${(index / recent.length).toFixed(2)} to ${((index + 1) / recent.length).toFixed(2)}`;
      bin.append(make("i"), make("i"));
      place.append(bin);
    });
  }
  // Square roots: most scores lie at both ends, and what lies between is what matters.
  const share = (bins) => { const sum = bins.reduce((a, b) => a + b, 0) || 1; return bins.map((count) => Math.sqrt(count / sum)); };
  const [now, then] = [share(recent), share(before)];
  const most = Math.max(0.01, ...now, ...then);
  [...place.children].forEach((bin, index) => {
    bin.children[0].style.height = `${(100 * then[index]) / most}%`;
    bin.children[1].style.height = `${(100 * now[index]) / most}%`;
  });
  set($("drift"), distance === null ? "drift –" : `drift ${distance.toFixed(2)}`);
  $("drift").title = "Largest difference of the two distribution functions; – : too few scores";
}

// ---------------------------------------------------------------- cameras
const cameras = new Map(); // id -> camera
const sorted = []; // the same, as they stand on the page
let filter = "all";
let active = null;

function addCamera(id, data) {
  const item = make("li");
  const tile = make("button", "tile");
  tile.type = "button";
  tile.tabIndex = -1;
  const parts = {};
  for (const name of ["name", "score", "word", "ms", "health"]) tile.append((parts[name] = make("span", name)));
  parts.strip = make("span", "strip");
  parts.planes = make("span", "planes");
  parts.strip.append(...Array.from({ length: 20 }, () => make("i")));
  parts.planes.append(...PARTS.map(() => make("i")));
  tile.append(parts.strip, parts.planes);
  set(parts.name, id);
  item.append(tile);
  tile.addEventListener("click", () => openCamera(id));
  tile.addEventListener("focus", () => activate(id));
  const camera = { data, item, tile, parts, isNear: !saysNear, isStale: false };
  if (saysNear) {
    item.addEventListener("contentvisibilityautostatechange", ({ skipped }) => {
      camera.isNear = !skipped;
      if (camera.isNear && camera.isStale) drawCamera(camera);
    });
  }
  cameras.set(id, camera);
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order(sorted[middle].data.id, id) < 0) low = middle + 1; else high = middle;
  }
  $("tiles").insertBefore(item, sorted[low]?.item ?? null);
  sorted.splice(low, 0, camera);
  return camera;
}

const { compare: order } = new Intl.Collator("en", { numeric: true });

function describe(data) {
  if (data.health === "silent") return `silent since ${clock(data.at - serverAhead)}`;
  if (data.health === "clock") return `clock ${data.detail}`;
  if (data.health === "refused") return `refused: ${word(data.detail)}`;
  return "";
}

// Only tiles that the browser renders are drawn; the others when they come near the screen.
const saysNear = "oncontentvisibilityautostatechange" in HTMLElement.prototype;

function drawCamera(camera) {
  const { tile, parts, data } = camera;
  camera.isStale = !camera.isNear && tile.dataset.outcome !== undefined && data.health === tile.dataset.health;
  if (camera.isStale) return;
  tile.dataset.outcome = data.outcome;
  tile.dataset.health = data.health;
  set(parts.word, word(data.reason ?? data.outcome));
  set(parts.score, data.score === null ? "" : data.score.toFixed(3));
  set(parts.ms, data.ms === null ? "" : `${Math.round(data.ms)} ms`);
  const health = describe(data);
  set(parts.health, health);
  const ticks = data.strip.padStart(20, " ");
  [...parts.strip.children].forEach((tick, index) => {
    if (tick.dataset.o !== ticks[index]) tick.dataset.o = ticks[index];
  });
  PARTS.forEach((part, index) => {
    const bar = parts.planes.children[index];
    const odds = data.evidence[part] ?? 0;
    bar.dataset.sign = odds < 0 ? "against" : "for";
    bar.style.setProperty("--share", `${Math.min(1, Math.abs(odds) / CLEAR) * 50}%`);
    bar.title = `${part} ${odds.toFixed(2)}`;
  });
  const score = data.score === null ? "" : `, score ${data.score.toFixed(2)}`;
  tile.setAttribute("aria-label", `${data.id}: ${word(data.reason ?? data.outcome)}${score}${health ? `, ${health}` : ""}`);
}

function isShown(data) {
  const find = $("find").value.trim().toLowerCase();
  const fits = filter === "all" || data.health === filter || (filter === "attention" && data.health !== "ok");
  return fits && (!find || data.id.toLowerCase().includes(find));
}

function showCameras(changed) {
  for (const camera of changed) {
    const hide = !isShown(camera.data);
    if (camera.item.hidden !== hide) camera.item.hidden = hide;
  }
  $("none").hidden = !cameras.size || sorted.some(({ item }) => !item.hidden);
  if (!active || cameras.get(active)?.item.hidden) {
    const first = sorted.find(({ item }) => !item.hidden);
    if (first) activate(first.data.id);
  }
}

function activate(id) {
  if (active === id) return;
  if (active && cameras.has(active)) cameras.get(active).tile.tabIndex = -1;
  active = id;
  cameras.get(id).tile.tabIndex = 0;
}

let told = "";
function summarise(update) {
  const count = { silent: 0, refused: 0, clock: 0, attention: 0 };
  for (const { data } of sorted) {
    if (data.health !== "ok") { count[data.health] += 1; count.attention += 1; }
  }
  set($("num-cameras"), String(cameras.size));
  for (const button of document.querySelectorAll(".filters button")) {
    const number = button.querySelector("b");
    if (number) set(number, String(count[button.dataset.filter]));
  }
  const models = Object.keys(update.models).length;
  const wrong = [
    update.troubles.length ? "the server needs attention" : "",
    models > 1 ? `${models} models judge at once` : "",
    count.attention ? `${count.attention} of ${cameras.size} cameras need attention` : "",
  ].filter(Boolean);
  const text = wrong.length ? wrong.join("; ") : cameras.size ? `${cameras.size} cameras, all well` : "No camera has sent yet";
  const shown = text[0].toUpperCase() + text.slice(1);
  if (shown !== told) {
    told = shown;
    set($("verdict"), shown);
    $("verdict").dataset.level = wrong.length ? "bad" : "";
  }
}

for (const button of document.querySelectorAll(".filters button")) {
  button.addEventListener("click", () => {
    filter = button.dataset.filter;
    for (const each of document.querySelectorAll(".filters button")) each.setAttribute("aria-pressed", String(each === button));
    showCameras(sorted);
  });
}
$("find").addEventListener("input", () => showCameras(sorted));
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement?.tagName !== "INPUT" && !$("camera").open) {
    event.preventDefault();
    $("find").focus();
  }
});
$("tiles").addEventListener("keydown", (event) => {
  const shown = sorted.filter(({ item }) => !item.hidden);
  const here = shown.findIndex(({ tile }) => tile === document.activeElement);
  if (here === -1) return;
  const columns = getComputedStyle($("tiles")).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -here, End: shown.length - 1 - here }[event.key];
  if (step === undefined) return;
  event.preventDefault();
  shown[Math.min(shown.length - 1, Math.max(0, here + step))].tile.focus();
});

// ---------------------------------------------------------------- one camera
let scores = null;
async function openCamera(id) {
  const { data } = cameras.get(id);
  set($("camera-name"), id);
  set($("camera-health"), describe(data) || "healthy");
  $("history").tBodies[0].replaceChildren();
  $("camera").showModal();
  const answer = await fetch(`history?camera=${encodeURIComponent(id)}`);
  if (!answer.ok) { set($("camera-health"), "its history can't be read now"); return; }
  const rows = await answer.json();
  scores ??= chart("chart-camera", [["score", "bona"], ["threshold", "soft", [4, 4]]], "", 1);
  const judged = rows.filter((row) => row.score !== null).reverse();
  scores.setSize({ width: $("chart-camera").clientWidth, height: 150 });
  scores.setData([judged.map((row) => row.at / 1000), judged.map((row) => row.score), judged.map((row) => row.threshold)]);
  $("history").tBodies[0].append(...rows.map((row) => {
    const line = make("tr");
    line.dataset.outcome = row.outcome;
    const evidence = Object.entries(row.evidence).map(([name, value]) => `${name} ${value > 0 ? "+" : ""}${value.toFixed(1)}`).join("  ");
    const quality = Object.entries(row.quality).map(([name, value]) => `${name} ${value}`).join("  ");
    line.append(
      make("td", "", clock(row.at - serverAhead)), make("td", "word", word(row.reason ?? row.outcome)),
      make("td", "", row.score === null ? "" : row.score.toFixed(3)), make("td", "", evidence || quality),
      make("td", "", row.timing_ms.total === undefined ? "" : `${row.timing_ms.total.toFixed(1)} ms`),
      make("td", "", row.replica.split("-")[0].split("#").at(-1)),
    );
    return line;
  }));
}

// ---------------------------------------------------------------- updates
function take(update) {
  serverAhead = update.now - Date.now();
  for (const row of update.seconds) { seconds.delete(row[0]); seconds.set(row[0], row); }
  const oldest = Math.floor(update.now / 1000) - KEPT_S;
  for (const at of seconds.keys()) { if (at >= oldest) break; seconds.delete(at); }
  const changed = update.cameras.sort((a, b) => order(a.id, b.id)).map((data) => {
    const camera = cameras.get(data.id) ?? addCamera(data.id, data);
    camera.data = data;
    drawCamera(camera);
    return camera;
  });
  showCameras(changed);
  drawFacts(update);
  // Canvases cost most of what the page costs: every other second is enough of five minutes.
  if (numUpdates++ % 2 === 0) drawCharts();
  summarise(update);
}

let numUpdates = 0;
let source = null;
function connect() {
  source = new EventSource("updates");
  source.onmessage = (event) => {
    $("link-dot").dataset.up = "yes";
    set($("link-text"), "live");
    clearTimeout(pending);
    pending = null;
    take(JSON.parse(event.data));
  };
  source.onerror = () => {
    // The server ends each stream after a while, and the browser asks again: that is no trouble.
    pending ??= setTimeout(() => {
      $("link-dot").dataset.up = "no";
      set($("link-text"), "no connection");
    }, 3000);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
  };
}
let pending = null;
connect();
// A page nobody looks at asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) source.close(); else if (source.readyState === EventSource.CLOSED) connect();
});
