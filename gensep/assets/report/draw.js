
// How a song is drawn: panels of its tracks and tables of its scores.
function element(tag, text = "", name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

const fullLabel = (track) =>
  track.source ? `${track.source}, ${label(track)}` : "mixture";

const decibels = (value, sign = false) =>
  value === null || value === undefined ? "–" : (sign && value >= 0 ? "+" : "") + value.toFixed(1);

function clock(seconds) {
  const tenths = Math.floor(seconds * 10 + 1e-6);
  return `${Math.floor(tenths / 600)}:${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
}

function label(track) {
  if (track.role === "mixture") return "mixture";
  if (track.role === "estimate") return track.method || "estimate";
  return track.role;
}

function drawTracks() {
  const home = $("song");
  home.replaceChildren();
  panels = [];
  const sources = [...new Set(song.tracks.map((track) => track.source))];
  for (const source of sources) {
    const row = element("div", "", source ? "row" : "row wide");
    if (source) home.append(element("h2", source));
    song.tracks.forEach((track, i) => {
      if (track.source === source) row.append(drawTrack(track, i));
    });
    home.append(row);
  }
}

function drawTrack(track, i) {
  const panel = $("track").content.firstElementChild.cloneNode(true);
  const find = (selector) => panel.querySelector(selector);
  panel.classList.add(track.role);
  const key = i < 10 ? String((i + 1) % 10) : "";
  find("kbd").textContent = key;
  find("kbd").hidden = !key;
  find(".name").textContent = label(track);
  find(".name").classList.toggle("given", label(track) === track.method);
  find(".solo").setAttribute("aria-label", `Hear ${fullLabel(track)} alone`);
  find(".solo").onclick = () => player.solo(i);
  find(".also").onclick = () => player.toggle(i);
  const gain = gainOf(track);
  if (gain !== null && gain !== undefined) {
    find(".score").textContent = `${decibels(gain, true)} dB`;
    find(".score").title = "SI-SDR above that of the mixture";
  }
  const img = find("img");
  img.src = track.image;
  img.alt = `Spectrogram: ${fullLabel(track)}`;
  for (const [text, height] of song.ticks) {
    const tick = element("span", text);
    tick.style.bottom = `${height * 100}%`;
    find(".ticks").append(tick);
  }
  if (!track.source) drawSeconds(find(".view"));
  if (track.deviation) {
    const button = find(".sd");
    button.hidden = false;
    button.setAttribute("aria-label", `Uncertainty of ${fullLabel(track)}`);
    button.title = `posterior standard deviation, 0 to ${data.deviation_db} dB`;
    button.onclick = () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      img.src = on ? track.deviation : track.image;
    };
  }
  watch(find(".view"));
  panels.push(panel);
  return panel;
}

function drawSeconds(view) {
  const step = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((s) => song.seconds / s < 7) || 1800;
  for (let at = step; at < song.seconds - step / 4; at += step) {
    const tick = element("span", clock(song.start + at).replace(".0", ""));
    tick.style.left = `${(at / song.seconds) * 100}%`;
    view.append(tick);
  }
}

function gainOf({ role, source, method }) {
  const oracle = role === "oracle";
  const scores = oracle ? Object.values(song.scores)[0] : role === "estimate" && song.scores[method];
  const row = scores && scores[source];
  return row ? row[oracle ? "oracle_si_sdr_gain" : "si_sdr_gain"] : null;
}

// A click seeks; dragging marks the part to loop.
function watch(view) {
  let from = null;
  const at = (event) => {
    const box = view.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * player.duration;
  };
  view.onpointerdown = (event) => {
    if (event.button !== 0) return;
    from = { x: event.clientX, seconds: at(event) };
    view.setPointerCapture(event.pointerId);
  };
  view.onpointermove = (event) => {
    if (!from || Math.abs(event.clientX - from.x) < 6) return;
    from.dragged = true;
    mark([Math.min(from.seconds, at(event)), Math.max(from.seconds, at(event))]);
  };
  view.onpointerup = (event) => {
    if (!from) return;
    const part = [Math.min(from.seconds, at(event)), Math.max(from.seconds, at(event))];
    const long = from.dragged && part[1] - part[0] > 0.1;
    const seconds = from.seconds;
    from = null;
    if (long) player.setLoop(true, part);
    else player.seek(seconds);
  };
  view.onpointercancel = () => {
    from = null;
    paint();
  };
}

function mark(region) {
  const [from, to] = region || [0, 0];
  $("song").style.setProperty("--from", from / (player.duration || 1));
  $("song").style.setProperty("--to", to / (player.duration || 1));
}

function drawScores() {
  const table = $("scores");
  table.replaceChildren();
  const methods = Object.keys(song.scores);
  table.hidden = !methods.length;
  const sources = [...new Set(song.tracks.map((track) => track.source))].filter((name) => name);
  if (methods.length) {
    const named = methods.map((m) => (methods.length > 1 ? `${m} ` : ""));
    const heads = named.flatMap((m) => [`${m}SI-SDR, dB`, `${m}gain, dB`]);
    fill(table, ["Source", ...heads, "mel-mask oracle's gain, dB"], sources.map((source) => {
      const rows = methods.map((m) => song.scores[m][source] || {});
      const cells = rows.flatMap((r) => [decibels(r.si_sdr), decibels(r.si_sdr_gain, true)]);
      return [source, ...cells, decibels(rows[0].oracle_si_sdr_gain, true)];
    }));
  }
  let told = "";
  $("runs").replaceChildren(...song.runs.flatMap((run) => {
    const facts = element("dl", "", "facts");
    for (const [name, value] of run.facts) {
      const pair = element("div");
      pair.append(element("dt", name), element("dd", value));
      facts.append(pair);
    }
    const parts = song.runs.length > 1 ? [element("h2", run.method, "given"), facts] : [facts];
    if (run.uncertainty) parts.push(...drawUncertainty(run.uncertainty));
    const origin = JSON.stringify([run.command, run.commit, run.versions]);
    if (origin !== told) { // methods of one command share one entry
      if (run.command) parts.push(element("pre", run.command));
      parts.push(element("p", software(run), "quiet"));
    }
    told = origin;
    return parts;
  }));
}

function drawUncertainty({ heads, rows, note }) {
  const table = element("table");
  fill(table, heads, rows);
  const wide = element("div", "", "scroll");
  wide.append(table);
  return [wide, element("p", note, "quiet")];
}

function software({ commit, versions }) {
  const named = Object.entries(versions).map((pair) => pair.join(" "));
  return [...(commit ? [`commit ${commit.slice(0, 12)}`] : []), ...named].join(" · ");
}

function fill(table, heads, rows, foot = null) {
  const line = (cells, tag) => {
    const row = element("tr");
    cells.forEach((cell, i) => {
      const box = element(i ? tag : "th", cell);
      if (!i) box.scope = tag === "th" ? "col" : "row";
      row.append(box);
    });
    return row;
  };
  const head = table.createTHead();
  head.append(line(heads, "th"));
  const body = table.createTBody();
  body.append(...rows.map((cells) => line(cells, "td")));
  if (foot) table.createTFoot().append(line(foot, "td"));
  return body;
}

function drawOverview() {
  const { methods, rows, mean, oracle } = data.overview;
  $("overview").hidden = rows.length < 2;
  if (rows.length < 2) return;
  const heads = methods.map((m) => m || "estimate");
  const body = fill($("songs"), ["Song", ...heads, "mel-mask oracle"],
    rows.map((r) => ["", ...r.gains.map((g) => decibels(g, true)), decibels(r.oracle, true)]),
    ["Mean", ...mean.map((g) => decibels(g, true)), decibels(oracle, true)]);
  [...body.rows].forEach((row, i) => {
    const button = element("button", rows[i].name, "link");
    button.onclick = () => show(i);
    row.dataset.song = i;
    row.cells[0].append(button);
  });
}
