// Records from the microphone without loss and without the browser's "improvements", which would change the very
// voice that is to be learned. Sends 16-bit samples at the microphone's own rate to Python when a take ends.

const SHOWN_DB = 60;
const QUIET_DBFS = -40, LOUD_DBFS = -3;
const SPEECH_ABOVE_NOISE_DB = 12, SPEECH_AT_LEAST_DBFS = -50;
const WARNING_S = 5; // before a recording ends by itself
const SHORTEST_HOLE_S = 0.002, LONGEST_HOLE_S = 0.05; // browsers ask a microphone for 3 to 43 ms at once
const QUIET_EDGE = 0.001; // -60 dBFS
const PRESSES = ["pointerdown", "click"];
const UNTREATED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };

const COLLECTOR = `
registerProcessor("collector", class extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0].length) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
});`;

const mounted = new WeakMap();

export default function (component) {
  const root = component.parentElement;
  if (!mounted.has(root)) mounted.set(root, new Microphone(root));
  const microphone = mounted.get(root);
  microphone.update(component);
  return () => microphone.leave();
}

class Microphone {
  constructor(root) {
    this.root = root;
    this.part = (name) => root.querySelector("." + name);
    this.state = "idle"; // idle, opening, recording
    this.part("record").onclick = () => this.toggle();
    this.part("listen").onclick = () => this.listen();
    this.onKey = (event) => this.key(event);
    this.onPress = (event) => this.press(event);
    this.onUnload = (event) => this.mayBeLost() && event.preventDefault();
  }

  update({ data, setTriggerValue }) {
    this.send = setTriggerValue;
    document.removeEventListener("keydown", this.onKey, true);
    document.addEventListener("keydown", this.onKey, true);
    for (const type of PRESSES) {
      document.removeEventListener(type, this.onPress, true);
      document.addEventListener(type, this.onPress, true);
    }
    window.addEventListener("beforeunload", this.onUnload);
    for (const hint of this.root.querySelectorAll("kbd")) hint.textContent = data.keys[hint.dataset.key];
    const phrase = this.part("phrase");
    if (phrase.textContent !== data.phrase) phrase.textContent = data.phrase;
    phrase.lang = data.language;
    phrase.dir = data.direction;
    const before = this.data;
    this.data = data;
    if (before && before.prompt !== data.prompt) {
      this.stop(false);
      this.forget();
      this.part("record").focus(); // who has just saved goes on by pressing Space
    }
    if (before && before.has_take && !data.has_take) this.forget();
    this.draw();
  }

  leave() {
    document.removeEventListener("keydown", this.onKey, true);
    for (const type of PRESSES) document.removeEventListener(type, this.onPress, true);
    window.removeEventListener("beforeunload", this.onUnload);
    this.stop(false);
  }

  forget() {
    this.samples = null;
    this.part("clock").textContent = "";
    this.say("");
    this.meter(-SHOWN_DB);
  }

  mayBeLost() {
    return this.data.to_be_saved && (this.samples || this.data.has_take || this.state === "recording");
  }

  // Space records and stops unless the focus is on something that Space belongs to (which a link is not). The page's
  // other keys are Streamlit's; while it records, they mean Stop.
  key(event) {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    const { record, ...others } = this.data.keys;
    const pressed = event.code === "Space" ? "Space" : event.key.toUpperCase();
    const focused = document.activeElement;
    const isTyping = focused && ["INPUT", "TEXTAREA"].includes(focused.tagName);
    if (this.state === "recording" && !isTyping && Object.values(others).includes(pressed)) return this.stopInstead(event);
    const free = !focused || focused === document.body || focused === this.root.host || ["MAIN", "A"].includes(focused.tagName)
      || focused.dataset.testid === "stMain" || focused.disabled;
    if (!free) return;
    const inside = this.root.activeElement;
    if (pressed === record && !inside) {
      event.preventDefault();
      this.toggle();
    } else if (pressed === others.listen && this.samples && this.state === "idle") {
      event.preventDefault();
      this.listen();
    }
  }

  // While it records, the page's other buttons and choices mean Stop: a slip beside it must not throw a recording away.
  press(event) {
    const pressed = event.target.closest && event.target.closest("button, a, label");
    if (this.state !== "recording" || !pressed || event.composedPath().includes(this.root)) return;
    if (event.type === "click") this.stopInstead(event);
    else event.stopImmediatePropagation(); // Streamlit's choices are made before the click
  }

  stopInstead(event) {
    event.preventDefault();
    event.stopImmediatePropagation();
    this.stop(true);
    this.part("record").focus(); // not the button that was pressed by mistake: Space would press it, and drop the take
  }

  toggle() {
    if (this.state === "recording") this.stop(true);
    else if (this.state === "idle") this.start();
  }

  async start() {
    this.stopListening();
    this.problem("");
    if (!window.isSecureContext || !navigator.mediaDevices) {
      this.problem(
        "This page was opened from another computer without encryption, and then browsers keep the microphone closed.\n" +
        "Open a tunnel on your own computer:  ssh -N -L " + (location.port || 80) + ":127.0.0.1:" + (location.port || 80) +
        " NAME@" + location.hostname + "\nand open http://localhost:" + (location.port || 80) + " there. Or serve the page over https."
      );
      return;
    }
    this.state = "opening";
    this.part("clock").textContent = "";
    this.draw();
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: UNTREATED });
      this.context = new AudioContext(); // at the device's own rate: not every browser resamples
      const module = URL.createObjectURL(new Blob([COLLECTOR], { type: "text/javascript" }));
      await this.context.audioWorklet.addModule(module);
      URL.revokeObjectURL(module);
      if (this.state !== "opening") return this.close(); // left meanwhile
      this.node = new AudioWorkletNode(this.context, "collector", { numberOfOutputs: 0 });
      this.blocks = [];
      this.frames = 0;
      this.noiseDbfs = 0;
      this.spokeAtS = null;
      this.isWarned = false;
      this.node.port.onmessage = (message) => this.hear(message.data);
      this.stream.getAudioTracks()[0].onended = () => this.stop(true);
      this.context.createMediaStreamSource(this.stream).connect(this.node);
    } catch (error) {
      this.state = "idle";
      this.close();
      this.problem(explain(error));
    }
    this.draw();
  }

  hear(block) {
    if (this.state === "opening") { // the first sound has come: nothing that is said from now on is lost
      this.state = "recording";
      this.say("Recording. Speak now.");
      this.draw();
    }
    if (this.state !== "recording") return;
    this.blocks.push(block);
    this.frames += block.length;
    if (this.blocks.length % 16) return;
    const seconds = this.frames / this.context.sampleRate;
    const dbfs = levelOf(this.blocks.slice(-16));
    this.meter(dbfs);
    this.part("clock").textContent = seconds.toFixed(1) + " s";
    this.noiseDbfs = Math.min(this.noiseDbfs, dbfs);
    if (dbfs > Math.max(SPEECH_AT_LEAST_DBFS, this.noiseDbfs + SPEECH_ABOVE_NOISE_DB)) this.spokeAtS = seconds;
    const silence = this.data.stop_after_silence_s;
    if (silence && this.spokeAtS !== null && seconds - this.spokeAtS > silence) this.stop(true);
    else if (seconds >= this.data.longest_s) this.stop(true, "That is as long as a recording can be. ");
    else if (seconds >= this.data.longest_s - WARNING_S && !this.isWarned) {
      this.isWarned = true;
      this.say("Recording. " + WARNING_S + " seconds left.");
    }
  }

  stop(keep, why = "") {
    const was = this.state;
    this.state = "idle";
    if (was === "recording" && keep) {
      const rate = this.context.sampleRate;
      this.samples = joined(this.blocks, this.frames, rate);
      this.rate = rate;
      this.say(why + "Stopped after " + (this.frames / rate).toFixed(1) + " seconds.");
      this.send("take", { samples: base64(this.samples), sample_rate_hz: rate, prompt: this.data.prompt });
    }
    if (was !== "idle") this.close();
    this.meter(-SHOWN_DB); // nothing is heard any more
    this.draw();
  }

  close() {
    if (this.stream) this.stream.getTracks().forEach((track) => track.stop());
    if (this.context && this.context.state !== "closed") this.context.close();
    this.stream = this.context = this.node = this.blocks = null;
  }

  listen() {
    if (this.playing) return this.stopListening();
    this.playing = new Audio(URL.createObjectURL(wav(this.samples, this.rate)));
    this.playing.onended = () => this.stopListening();
    this.playing.play();
    this.draw();
  }

  stopListening() {
    if (!this.playing) return;
    this.playing.pause();
    URL.revokeObjectURL(this.playing.src);
    this.playing = null;
    this.draw();
  }

  draw() {
    const record = this.part("record");
    const on = this.state === "recording";
    const words = { idle: this.samples ? "Record again" : "Record", opening: "Opening…", recording: "Stop" };
    record.querySelector(".label").textContent = words[this.state];
    record.querySelector(".sign").textContent = on ? "■" : "●";
    record.classList.toggle("on", on);
    const listen = this.part("listen");
    listen.hidden = !this.samples || this.state !== "idle";
    listen.firstChild.textContent = this.playing ? "Stop listening " : "Listen ";
  }

  meter(dbfs) {
    const shown = Math.max(-SHOWN_DB, Math.min(0, dbfs));
    const level = this.part("level");
    level.style.width = 100 * (1 + shown / SHOWN_DB) + "%";
    level.classList.toggle("quiet", dbfs < QUIET_DBFS);
    level.classList.toggle("loud", dbfs > LOUD_DBFS);
    this.part("meter").setAttribute("aria-valuenow", Math.round(shown));
  }

  say(words) {
    this.part("status").textContent = words;
  }

  problem(words) {
    this.part("problem").textContent = words;
    this.part("problem").hidden = !words;
  }
}

function explain(error) {
  if (error.name === "NotAllowedError")
    return "The browser may not use the microphone.\nClick the sign beside the address of this page, allow the microphone, and press Record again. " +
      "If there is no such sign, allow it in the settings of the browser or of the system.";
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError")
    return "No microphone was found.\nPlug one in, or switch it on, and press Record again.";
  if (error.name === "NotReadableError")
    return "The microphone is in use by another program, or the system keeps it closed.\nClose other programs that use it, and press Record again.";
  return "The microphone did not start (" + error.name + ").\nPlug it in again, reload this page, and press Record again.";
}

function levelOf(blocks) {
  let sum = 0, count = 0;
  for (const block of blocks) {
    for (const sample of block) sum += sample * sample;
    count += block.length;
  }
  return 10 * Math.log10(Math.max(sum / count, 1e-10));
}

// Where a busy computer hands over sound too late, browsers put digital silence in its place, inside a word if it so
// happens, and then go on with that very sound: nothing is missing once the hole is closed. Longer silence, and silence
// that sound fades into and out of, is the microphone's own.
export function joined(blocks, frames, rate) {
  const samples = new Int16Array(frames);
  let at = 0, zeros = 0, before = 0;
  for (const block of blocks)
    for (const sample of block) {
      if (!sample) zeros++;
      else {
        const isAbrupt = Math.max(Math.abs(before), Math.abs(sample)) > QUIET_EDGE;
        if (isAbrupt && zeros >= SHORTEST_HOLE_S * rate && zeros <= LONGEST_HOLE_S * rate) at -= zeros;
        zeros = 0;
        before = sample;
      }
      samples[at++] = Math.round(32767 * Math.max(-1, Math.min(1, sample)));
    }
  return samples.slice(0, at);
}

function base64(samples) {
  const bytes = new Uint8Array(samples.buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
  return btoa(text);
}

function wav(samples, rate) {
  const header = new DataView(new ArrayBuffer(44));
  const write = (at, text) => [...text].forEach((char, index) => header.setUint8(at + index, char.charCodeAt(0)));
  write(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  write(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  write(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}
