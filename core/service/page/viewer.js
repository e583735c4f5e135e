// The preview of one job: one movie that holds several pictures, of which one is shown, or two with a wipe between.
import { make } from "./words.js";

const $ = (selector) => document.querySelector(selector);
const NAMES = { composite: "Composite", layer: "Layer", alpha: "Alpha", plate: "Plate", wipe: "Wipe" };

export class Viewer {
  constructor() {
    this.root = $("#viewer");
    this.canvas = $("#screen canvas");
    this.still = $("#screen img");
    this.words = $("#screen p");
    this.video = Object.assign(document.createElement("video"), { muted: true, loop: true, playsInline: true });
    this.view = "composite";
    this.split = 0.5;
    this.job = null;
    this.video.addEventListener("loadeddata", () => this.ready());
    this.video.addEventListener("seeked", () => this.draw());
    this.video.addEventListener("play", () => this.shown());
    this.video.addEventListener("pause", () => this.shown());
    this.video.addEventListener("error", () => this.job && this.say("This browser cannot play preview.mp4."));
    $("#play").onclick = () => this.toggle();
    $("#frame").oninput = (event) => this.step(Number(event.target.value));
    $("#enlarge").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen());
    document.addEventListener("fullscreenchange", () => ($("#enlarge").textContent = document.fullscreenElement ? "Shrink" : "Enlarge"));
    $("#wipe input").oninput = (event) => this.wipe(event.target.value / 1000);
    this.canvas.onpointerdown = (event) => this.drag(event);
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  // Empty, but for a picture where there is one.
  clear(words = "", url = null) {
    this.job = null;
    this.video.pause();
    if (this.video.src) URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
    $("#transport").hidden = $("#views").hidden = $("#wipe").hidden = true;
    this.canvas.hidden = true;
    this.poster(url);
    this.say(words);
  }

  poster(url) {
    this.still.hidden = !url || !this.canvas.hidden;
    if (url) this.still.src = url;
  }

  say(words) {
    this.words.textContent = words;
  }

  // blob: the movie of a job with `facts`; plays at once.
  load(job, blob) {
    this.clear("", this.still.hidden ? null : this.still.src);
    this.job = job;
    const { frames = 1, fps = 24, first = 1, views = {} } = job.facts ?? {};
    Object.assign(this, { frames, fps: fps || 24, first, views });
    const names = Object.keys(NAMES).filter((name) => views[name] || (name === "wipe" && views.composite && views.plate));
    if (!names.includes(this.view)) this.view = "composite";
    $("#views").replaceChildren(...names.map((name) => this.choice(name)));
    $("#frame").max = Math.max(0, frames - 1);
    this.video.src = URL.createObjectURL(blob);
    this.video.play().catch(() => {});
  }

  choice(name) {
    const button = make("button", NAMES[name], { "data-view": name });
    button.onclick = () => this.choose(name);
    return button;
  }

  ready() {
    if (!this.job) return;
    this.canvas.hidden = $("#transport").hidden = false;
    this.still.hidden = true;
    this.choose(this.view);
    this.follow();
  }

  choose(view) {
    this.view = view;
    for (const button of $("#views").children) button.setAttribute("aria-pressed", String(button.dataset.view === view));
    $("#views").hidden = !$("#views").children.length;
    $("#wipe").hidden = view !== "wipe";
    this.draw();
  }

  follow() {
    this.draw();
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(() => this.follow());
    else requestAnimationFrame(() => this.follow());
  }

  // [x, y, width, height] of a view in the movie.
  place(name) {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!this.views[name]) return [0, 0, width, height];
    const [row, column] = this.views[name];
    return [(column * width) / 2, (row * height) / 2, width / 2, height / 2];
  }

  draw() {
    if (!this.job || !this.video.videoWidth) return;
    const [, , width, height] = this.place(this.view === "wipe" ? "composite" : this.view);
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    if (this.view === "wipe") this.drawWipe(context, width, height);
    else context.drawImage(this.video, ...this.place(this.view), 0, 0, width, height);
    const frame = Math.min(this.frames - 1, Math.floor(this.video.currentTime * this.fps + 1e-3));
    $("#frame").value = frame;
    $("#frame").setAttribute("aria-valuetext", `frame ${this.first + frame}`);
    $("#transport output").textContent = `${this.first + frame}`;
  }

  drawWipe(context, width, height) {
    const at = Math.round(this.split * width);
    for (const [name, from, to] of [["composite", 0, at], ["plate", at, width]]) {
      const [x, y] = this.place(name);
      if (to > from) context.drawImage(this.video, x + from, y, to - from, height, from, 0, to - from, height);
    }
    context.fillStyle = "#fff";
    context.fillRect(at - 1, 0, 2, height);
  }

  wipe(split) {
    this.split = Math.min(1, Math.max(0, split));
    $("#wipe input").value = Math.round(this.split * 1000);
    this.draw();
  }

  drag(event) {
    if (this.view !== "wipe") return this.toggle();
    const move = (at) => {
      const box = this.canvas.getBoundingClientRect();
      this.wipe((at.clientX - box.left) / box.width);
    };
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.onpointermove = move;
    this.canvas.onpointerup = () => (this.canvas.onpointermove = null);
    move(event);
  }

  toggle() {
    if (!this.job) return;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.step(Number($("#frame").value));
  }

  // To a frame, counted from 0: its middle, so that no rounding shows its neighbour.
  step(frame) {
    this.video.pause();
    this.video.currentTime = (Math.min(this.frames - 1, Math.max(0, frame)) + 0.5) / this.fps;
  }

  shown() {
    const words = this.video.paused ? "Play" : "Pause";
    $("#play").textContent = words;
    $("#play").setAttribute("aria-label", words);
  }

  key(event) {
    if (!this.job || event.target.closest("button, input")) return;
    const frame = Number($("#frame").value);
    const act = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.step(frame - 1),
      ArrowRight: () => this.step(frame + 1),
      Home: () => this.step(0),
      End: () => this.step(this.frames - 1),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }
}
