
// The page around the player: choice of the song, loading of audio, controls, keys.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const waiting = {}; // by song: the function to call when its audio script has loaded
let current = -1; // index of the song that is shown
let song = null;
let panels = [];
let loading = null;
let problem = "";
let keyboard = false; // whether the last input was from the keyboard
const player = new Player(() => paint());

// Scripts in the folder of the page call this with the audio of a song.
function register(index, files) {
  waiting[index](files);
}

function audioOf(index) {
  const inside = $(`audio-${index}`);
  if (inside) return Promise.resolve(JSON.parse(inside.textContent));
  return new Promise((resolve, reject) => {
    waiting[index] = resolve;
    const script = document.createElement("script");
    script.src = data.songs[index].audio;
    script.onerror = () => reject(new Error(`${script.src} is missing; keep the folder whole`));
    script.onload = () => script.remove();
    document.head.append(script);
  });
}

// Decode the audio of a song when it is first played.
async function ready() {
  const awake = player.wake();
  if (!player.buffers) {
    const index = current;
    problem = "";
    loading = loading || audioOf(index).then((files) => player.load(files));
    paint();
    try {
      await loading;
    } catch (error) {
      if (index === current) problem = `cannot play: ${error.message}`;
    }
    if (index !== current) return false;
    loading = null;
    paint();
  }
  await awake;
  return player.buffers !== null;
}

async function playPause() {
  if (player.playing) player.pause();
  else if (await ready()) player.play();
}

function show(index) {
  current = index;
  song = data.songs[index];
  loading = null;
  problem = "";
  player.clear();
  player.duration = song.seconds;
  $("title").textContent = song.name;
  const channels = ["", "mono", "stereo"][song.channels] || `${song.channels} channels`;
  const part = song.whole ? "" : `, from ${clock(song.start)} on`;
  const quieter = song.gain_db < 0 ? `, played ${decibels(-song.gain_db)} dB quieter` : "";
  $("about").textContent =
    `${clock(song.seconds)}${part} · ${song.rate / 1000} kHz ${channels}${quieter}`;
  const deviations = song.tracks.some((track) => track.deviation)
    ? ` ± dB shows the posterior standard deviation, from 0 (dark) to ${data.deviation_db} dB.` : "";
  const scored = Object.keys(song.scores).length
    ? " The dB beside a name are the gain in SI-SDR over the mixture." : "";
  $("note").textContent = `Spectrograms: mel bands, Hz; one scale for all, ${data.scale_db} dB deep.`
    + `${deviations}${scored} Click to go there, drag to loop a part.`;
  drawTracks();
  drawScores();
  for (const row of $("songs").querySelectorAll("tbody tr[data-song]")) {
    row.classList.toggle("here", Number(row.dataset.song) === index);
  }
  paint();
}

// Update everything but the playhead.
function paint() {
  if (!song) return;
  document.body.classList.toggle("playing", player.playing);
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  $("play").classList.toggle("on", player.playing);
  $("mute").setAttribute("aria-pressed", player.muted);
  $("loop").setAttribute("aria-pressed", player.looping);
  const names = song.tracks.filter((_, i) => player.heard.has(i)).map(fullLabel);
  $("heard").textContent = problem || (loading ? "decoding …" : names.join(" + ") || "nothing");
  panels.forEach((panel, i) => {
    const on = player.heard.has(i);
    panel.classList.toggle("on", on);
    panel.querySelector(".solo").setAttribute("aria-pressed", on && player.heard.size === 1);
    const also = panel.querySelector(".also");
    also.setAttribute("aria-pressed", on);
    also.setAttribute("aria-label", `${on ? "Mute" : "Hear also"} ${fullLabel(song.tracks[i])}`);
  });
  mark(player.region);
  $("song").classList.toggle("looping", player.looping);
  tick();
}

// Move the playhead, again and again while the song plays.
let frame = 0;
function tick() {
  const at = player.position;
  const share = player.duration ? at / player.duration : 0;
  $("song").style.setProperty("--at", share);
  $("seek").style.setProperty("--at", share);
  $("seek").value = Math.round(share * 1000);
  $("seek").setAttribute("aria-valuetext", clock(at));
  $("time").textContent = `${clock(at)} / ${clock(player.duration)}`;
  cancelAnimationFrame(frame);
  if (player.playing) frame = requestAnimationFrame(tick);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const slider = event.target.type === "range";
  const pressable = keyboard && event.target.closest("button, summary, a");
  const digit = event.key.length === 1 ? "1234567890".indexOf(event.key) : -1;
  if (event.key === " " && !pressable) playPause();
  else if (digit >= 0 && digit < song.tracks.length) player.solo(digit);
  else if (event.key.startsWith("Arrow") && !(slider && event.target.id === "volume")) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    player.seek(player.position + step * (event.shiftKey ? 10 : 2));
  } else if (event.key === "m") player.setVolume(player.volume, !player.muted);
  else if (event.key === "b") player.solo(player.before);
  else if (event.key === "l") player.setLoop(!player.looping);
  else if (event.key === "Escape") player.setLoop(false, null);
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Tab") keyboard = true;
  key(event);
});
document.addEventListener("pointerdown", () => { keyboard = false; });
$("play").onclick = playPause;
$("swap").onclick = () => player.solo(player.before);
$("loop").onclick = () => player.setLoop(!player.looping);
$("mute").onclick = () => player.setVolume(player.volume, !player.muted);
$("volume").oninput = () => player.setVolume(Number($("volume").value), false);
$("seek").oninput = () => player.seek((Number($("seek").value) / 1000) * player.duration);

$("made").textContent = data.command;
$("versions").textContent = software(data);
document.title = data.songs.length > 1 ? "Separations" : data.songs[0].name;
drawOverview();
show(0);
