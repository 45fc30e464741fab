"use strict";

// All tracks of a song play on one clock, from the same sample on; gains decide which are heard, so
// switching between tracks never changes the position.
const FADE = 0.012; // seconds; shorter fades are heard as clicks
const LEAD = 0.03; // seconds between the call to start and the start

class Player {
  constructor(changed) {
    this.changed = changed; // called after every change, except that time passes
    this.context = null;
    this.playing = false;
    this.muted = false;
    this.volume = 1;
    this.wanted = 0; // counts songs: one that is no longer shown may finish decoding late
    this.clear();
  }

  clear() {
    this.halt();
    this.wanted += 1;
    this.playing = false;
    this.buffers = null;
    this.duration = 0;
    this.offset = 0;
    this.region = null; // [from, to] in seconds
    this.looping = false;
    this.heard = new Set([0]);
    this.now = this.before = 0; // the track that was heard alone last, and the one before it
  }

  // Browsers allow sound only after a click or a key.
  wake() {
    if (!this.context) {
      this.context = new AudioContext({ latencyHint: "interactive" });
      this.output = this.context.createGain();
      this.output.connect(this.context.destination);
      this.setVolume();
    }
    return this.context.resume();
  }

  async load(files) {
    const song = this.wanted;
    const decoded = await Promise.all(files.map((text) => this.context.decodeAudioData(bytes(text))));
    if (song !== this.wanted) return false;
    this.buffers = decoded;
    this.duration = decoded[0].duration;
    return true;
  }

  get position() {
    if (!this.playing) return this.offset;
    const at = this.offset + Math.max(0, this.context.currentTime - this.started);
    const [from, to] = this.part;
    if (this.looping && at >= to) return from + ((at - from) % (to - from));
    return Math.min(at, this.duration);
  }

  get part() {
    return this.region || [0, this.duration];
  }

  play() {
    if (!this.buffers) return;
    this.halt();
    const [from, to] = this.part;
    if (this.looping && (this.offset < from || this.offset >= to - 0.01)) this.offset = from;
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    this.started = this.context.currentTime + LEAD;
    const bus = this.context.createGain();
    bus.gain.setValueAtTime(0, this.started);
    bus.gain.linearRampToValueAtTime(1, this.started + FADE);
    bus.connect(this.output);
    const run = { bus, nodes: [], gains: [] };
    this.buffers.forEach((buffer, i) => {
      const node = new AudioBufferSourceNode(this.context, {
        buffer, loop: this.looping, loopStart: from, loopEnd: to,
      });
      const gain = new GainNode(this.context, { gain: this.heard.has(i) ? 1 : 0 });
      node.connect(gain).connect(bus);
      node.start(this.started, this.offset);
      run.nodes.push(node);
      run.gains.push(gain);
    });
    run.nodes[0].onended = () => {
      if (this.run !== run) return;
      this.halt();
      this.playing = false;
      this.offset = 0;
      this.changed();
    };
    this.run = run;
    this.playing = true;
    this.changed();
  }

  pause() {
    this.offset = this.position;
    this.halt();
    this.playing = false;
    this.changed();
  }

  // Fade out and stop what plays now.
  halt() {
    if (!this.run) return;
    const { bus, nodes } = this.run;
    const now = this.context.currentTime;
    this.run = null;
    bus.gain.cancelScheduledValues(now);
    bus.gain.setTargetAtTime(0, now, FADE / 3);
    nodes.forEach((node) => node.stop(now + 3 * FADE));
  }

  seek(seconds) {
    const at = Math.min(Math.max(seconds, 0), Math.max(0, this.duration - 0.02));
    const playing = this.playing;
    const [from, to] = this.part;
    if (at < from || at > to) { // seeking outside the loop ends it
      this.region = null;
      this.looping = false;
    }
    this.playing = false;
    this.offset = at;
    if (playing) this.play();
    else this.changed();
  }

  solo(i) {
    if (i !== this.now) this.before = this.now;
    this.now = i;
    this.hear(new Set([i]));
  }

  toggle(i) {
    const heard = new Set(this.heard);
    if (!heard.delete(i)) heard.add(i);
    this.hear(heard);
  }

  hear(heard) {
    this.heard = heard;
    if (this.run) {
      const now = this.context.currentTime;
      this.run.gains.forEach((gain, i) => {
        gain.gain.setTargetAtTime(heard.has(i) ? 1 : 0, now, FADE / 3);
      });
    }
    this.changed();
  }

  setVolume(volume = this.volume, muted = this.muted) {
    this.volume = volume;
    this.muted = muted;
    if (this.context) {
      const level = muted ? 0 : volume * volume; // closer to perceived loudness
      this.output.gain.setTargetAtTime(level, this.context.currentTime, FADE / 3);
    }
    this.changed();
  }

  // Loop the marked part, or the whole song where none is marked.
  setLoop(looping, region = this.region) {
    const at = this.position;
    this.region = region;
    this.looping = looping;
    const [from, to] = this.part;
    this.seek(looping && (at < from || at >= to) ? from : at);
  }
}

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out.buffer;
}
