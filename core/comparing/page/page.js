"use strict";
// data.js brings REPORT, the content of table.json.

const TITLES = { obj_add: "Object addition", background_replace: "Background change" };
const GROUPS = [["preservation", "judged"], ["exactness", "video", "matting"]]; // a table each; published figures are in the first
const $ = (selector, within = document) => within.querySelector(selector);

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function shown(value, figure) {
  return value === null || value === undefined ? "-" : value.toFixed(figure.digits);
}

const isThere = (value) => value !== null && value !== undefined;

// The best of what was measured here, by column; a mean of fewer clips is not compared with one of more.
function bestOf(rows, name, figure) {
  const measured = rows.filter((row) => !row.published && isThere(row[name]) && !row.failed);
  if (!figure.better || measured.length < 2) return null;
  return measured.reduce((a, b) => (figure.better * (b[name] - a[name]) > 0 ? b : a))[name];
}

// Every method has its row in every table, also one of which no clip could be measured; of the published those with figures.
function tableOf(rows, groups) {
  const columns = Object.entries(REPORT.figures).filter(
    ([name, f]) => groups.includes(f.group) && rows.some((row) => isThere(row[name])));
  const table = document.createElement("table"), head = table.createTHead().insertRow();
  head.append(make("th", "method", { scope: "col" }), make("th", "clips", { scope: "col" }));
  for (const [, f] of columns) head.append(make("th", `${f.title} ${["↓", "", "↑"][f.better + 1]}`.trim(), { scope: "col", title: f.what + ["; less is better", "", "; more is better"][f.better + 1] }));
  const body = table.createTBody();
  for (const row of rows.filter((row) => !row.published || columns.some(([name]) => isThere(row[name])))) {
    const line = body.insertRow();
    line.className = row.published ? "published" : row.clips ? "measured" : "measured failed";
    line.append(make("th", row.published ? `${row.method}, published` : row.method, { scope: "row" }));
    line.append(make("td", row.failed ? `${row.clips} of ${row.clips + row.failed}` : row.clips));
    for (const [name, figure] of columns) {
      const some = row.measured && row.measured[name] && row.measured[name] !== row.clips ? ` (${row.measured[name]})` : "";
      const best = !row.published && isThere(row[name]) && row[name] === bestOf(rows, name, figure);
      line.append(make("td", shown(row[name], figure) + some, best ? { class: "best" } : {}));
    }
  }
  const scroll = make("div", "", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" });
  scroll.append(table);
  return columns.length ? scroll : "";
}

// One row of the test set: its videos show the same frame, whatever their own rates.
class Player {
  constructor(key, clips) {
    this.element = $("#clip").content.cloneNode(true).firstElementChild;
    this.measured = clips.filter((clip) => clip.figures);
    this.frames = this.measured.length ? this.measured[0].frames[1] : 0;
    this.fps = this.measured.length ? this.measured[0].fps : 24;
    $("h3", this.element).append(key, make("span", `  ${TITLES[clips[0].edit_type]}`));
    $(".prompt", this.element).textContent = clips[0].prompt;
    if (this.measured.length) this.addVideos(key);
    for (const clip of clips) {
      const said = clip.error || clip.note;
      if (said) $(".notes", this.element).append(make("li", `${clip.method}: ${said}`, { class: clip.error ? "failed" : "note" }));
    }
    this.slider = $(".frame", this.element);
    this.slider.max = Math.max(0, this.frames - 1);
    this.slider.addEventListener("input", () => { this.pause(); this.seek(Number(this.slider.value)); });
    this.button = $(".play", this.element);
    this.button.addEventListener("click", () => (this.playing ? this.pause() : this.play()));
    $(".transport", this.element).hidden = !this.measured.length;
    this.playing = false;
    this.show(0);
  }

  addVideos(key) {
    this.addVideo(key, "plate.mp4", "plate", "");
    if (this.measured.some((clip) => clip.has_truth)) this.addVideo(key, "truth.mp4", "alpha of the test set", "");
    for (const clip of this.measured)
      for (const file of clip.media) {
        const isAlpha = file.endsWith(".alpha.mp4"), names = isAlpha ? ["mad", "dtssd"] : ["psnr", "ssim", "psnr_outside"];
        const figures = names.filter((n) => clip.figures[n] !== null && clip.figures[n] !== undefined)
          .map((n) => `${REPORT.figures[n].title} ${shown(clip.figures[n], REPORT.figures[n])}`).join("  ");
        this.addVideo(key, file, isAlpha ? `${clip.method}, alpha` : clip.method, figures);
      }
  }

  addVideo(key, file, name, figures) {
    const address = (name) => ["media", key, name].map(encodeURIComponent).join("/");
    const video = make("video", "", { preload: "auto", playsinline: "", "data-src": address(file), "data-name": name, poster: address(file.replace(/\.mp4$/, ".jpg")) });
    video.muted = true;
    video.addEventListener("loadedmetadata", () => this.place(video));
    const caption = make("figcaption", name), figure = document.createElement("figure");
    const enlarge = make("button", "Enlarge", { class: "enlarge", "aria-label": `Enlarge ${name} of ${key}` });
    enlarge.addEventListener("click", () => large.open(this, video));
    video.addEventListener("click", () => large.open(this, video));
    caption.append(make("span", figures), enlarge);
    figure.append(video, caption);
    $(".players", this.element).append(figure);
  }

  get videos() { return [...this.element.querySelectorAll("video")]; }

  load() {
    for (const video of this.videos) if (!video.src) video.src = video.dataset.src;
  }

  // The middle of a frame, so that no rounding shows its neighbour; held by shorter videos at their last.
  seek(frame) {
    this.load();
    this.show(frame);
    for (const video of this.videos) if (video.readyState) this.place(video);
  }

  place(video) {
    video.currentTime = Math.min((this.frame + 0.5) / this.fps, video.duration - 0.001);
  }

  async play() {
    this.load();
    this.playing = true;
    this.button.textContent = "Pause";
    large.shown(this);
    if (this.frame >= this.frames - 1) this.seek(0);
    await Promise.allSettled(this.videos.map((video) => video.play()));
    requestAnimationFrame(() => this.follow());
  }

  pause() {
    if (!this.playing) return;
    this.playing = false;
    this.button.textContent = "Play";
    for (const video of this.videos) video.pause();
    this.seek(this.frame);
  }

  // The plate leads; who is a frame off is put right.
  follow() {
    if (!this.playing) return;
    const [leader, ...others] = this.videos;
    if (leader.ended) {
      this.seek(0);
      for (const video of this.videos) video.play();
    }
    for (const video of others)
      if (!video.ended && !video.seeking && Math.abs(video.currentTime - leader.currentTime) > 1 / this.fps) video.currentTime = leader.currentTime;
    this.show(Math.min(this.frames - 1, Math.floor(leader.currentTime * this.fps)));
    requestAnimationFrame(() => this.follow());
  }

  show(frame) {
    this.frame = frame;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `frame ${frame + 1} of ${this.frames}`);
    $("output", this.element).textContent = `${frame + 1} of ${this.frames}`;
    large.shown(this);
  }
}

// One clip, large: a video, two with a wipe between, or their difference. It draws what the clip's player plays.
class Large {
  constructor() {
    this.dialog = $("#large");
    this.canvas = $("canvas", this.dialog);
    this.modes = { one: "One", wipe: "Wipe", difference: "Difference" };
    this.mode = "one";
    this.split = 0.5;
    for (const [mode, words] of Object.entries(this.modes)) {
      const button = make("button", words, { "data-mode": mode });
      button.addEventListener("click", () => this.choose(mode));
      $(".modes", this.dialog).append(button);
    }
    for (const name of [".a", ".b", ".times"]) $(name, this.dialog).addEventListener("change", () => this.draw());
    $(".close", this.dialog).addEventListener("click", () => this.dialog.close());
    $(".play", this.dialog).addEventListener("click", () => (this.player.playing ? this.player.pause() : this.player.play()));
    $(".frame", this.dialog).addEventListener("input", (event) => { this.player.pause(); this.player.seek(Number(event.target.value)); });
    $(".wipe input", this.dialog).addEventListener("input", (event) => { this.split = event.target.value / 1000; this.draw(); });
    this.canvas.addEventListener("pointermove", (event) => event.buttons && this.wipeAt(event));
    this.canvas.addEventListener("pointerdown", (event) => this.wipeAt(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.dialog.addEventListener("close", () => { this.player.pause(); this.player = null; });
    this.player = null;
  }

  open(player, video) {
    this.player = player;
    player.load();
    const videos = player.videos;
    for (const [name, chosen] of [[".a", videos.indexOf(video)], [".b", 0]]) {
      const select = $(name, this.dialog);
      select.replaceChildren(...videos.map((v, n) => make("option", v.dataset.name, { value: n })));
      select.value = chosen;
    }
    $(".title", this.dialog).textContent = player.element.dataset.key;
    $(".frame", this.dialog).max = Math.max(0, player.frames - 1);
    for (const each of videos) if (!each.drawsLarge) { each.drawsLarge = true; for (const event of ["seeked", "loadeddata"]) each.addEventListener(event, () => this.draw()); }
    this.dialog.showModal();
    this.choose(this.mode);
    this.shown(player);
    this.canvas.focus();
  }

  choose(mode) {
    this.mode = mode;
    for (const button of $(".modes", this.dialog).children) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    $(".wipe", this.dialog).hidden = mode !== "wipe";
    $(".gain", this.dialog).hidden = mode !== "difference";
    $(".b", this.dialog).parentElement.hidden = mode === "one";
    this.draw();
  }

  shown(player) {
    if (player !== this.player) return;
    $(".frame", this.dialog).value = player.frame;
    $("output", this.dialog).textContent = `${player.frame + 1} of ${player.frames}`;
    $(".play", this.dialog).textContent = player.playing ? "Pause" : "Play";
    this.draw();
  }

  draw() {
    if (!this.player) return;
    const [a, b] = [".a", ".b"].map((name) => this.player.videos[Number($(name, this.dialog).value)]);
    if (a.readyState < 2) return;
    const { videoWidth: width, videoHeight: height } = a;
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    context.filter = "none";
    context.globalCompositeOperation = "source-over";
    if (this.mode === "one" || b.readyState < 2) return context.drawImage(a, 0, 0, width, height);
    context.drawImage(b, 0, 0, width, height);
    if (this.mode === "wipe") {
      const at = Math.round(this.split * width);
      if (at > 0) context.drawImage(a, 0, 0, at, a.videoHeight, 0, 0, at, height);
      context.fillStyle = "#fff";
      context.fillRect(at - 1, 0, 2, height);
      return;
    }
    context.globalCompositeOperation = "difference";
    context.drawImage(a, 0, 0, width, height);
    context.globalCompositeOperation = "copy";
    context.filter = `brightness(${$(".times", this.dialog).value})`;
    context.drawImage(this.canvas, 0, 0);
  }

  wipeAt(event) {
    if (this.mode !== "wipe") return;
    const box = this.canvas.getBoundingClientRect();
    // The picture lies in the middle of the element's box, in its own shape.
    const scale = Math.min(box.width / this.canvas.width, box.height / this.canvas.height), width = this.canvas.width * scale;
    this.split = Math.min(1, Math.max(0, (event.clientX - box.left - (box.width - width) / 2) / width));
    $(".wipe input", this.dialog).value = Math.round(1000 * this.split);
    this.draw();
  }

  key(event) {
    const { player } = this, step = { ArrowLeft: player.frame - 1, ArrowRight: player.frame + 1, Home: 0, End: player.frames - 1 }[event.key];
    if (event.key === " ") player.playing ? player.pause() : player.play();
    else if (step === undefined) return;
    else { player.pause(); player.seek(Math.min(player.frames - 1, Math.max(0, step))); }
    event.preventDefault();
  }
}

const large = new Large();

const players = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const player = players.get(entry.target.dataset.key);
    if (entry.isIntersecting) player.load();
    else if (large.player !== player) player.pause();
  }
}, { rootMargin: "300px" });

function order() {
  const figure = $("#figure").value, method = $("#method").value, kind = $("#kind").value;
  const badness = (key) => {
    const clip = byKey.get(key).find((c) => c.method === method);
    if (!clip || clip.error) return Infinity; // what failed is worst
    const value = clip.figures[figure];
    return value === null || value === undefined ? -Infinity : -REPORT.figures[figure].better * value;
  };
  const keys = [...byKey.keys()].filter((key) => !kind || byKey.get(key)[0].edit_type === kind);
  keys.sort((a, b) => (badness(a) < badness(b)) - (badness(a) > badness(b)));
  for (const [key, player] of players) if (!keys.includes(key)) player.element.remove();
  $("#clips").append(...keys.map((key) => players.get(key).element));
}

const byKey = new Map();
for (const clip of REPORT.clips) byKey.set(clip.key, [...(byKey.get(clip.key) || []), clip]);
const methods = [...new Set(REPORT.clips.map((clip) => clip.method))];
const failed = REPORT.clips.filter((clip) => clip.error).length;
$("#summary").textContent = `${byKey.size} clips, ${methods.join(", ")}` + (failed ? `; ${failed} results failed` : "");
for (const [kind, rows] of Object.entries(REPORT.tables)) {
  $("#tables").append(make("h2", TITLES[kind]), ...GROUPS.map((groups) => tableOf(rows, groups)));
  $("#kind").append(make("option", TITLES[kind], { value: kind }));
}
for (const [name, f] of Object.entries(REPORT.figures))
  if (Object.values(REPORT.tables).flat().some((row) => isThere(row[name])))
    $("#legend dl").append(make("dt", f.title), make("dd", f.what + ["; less is better", "", "; more is better"][f.better + 1]));
$("#published").textContent = `Bold: the best that was measured here. In italics: ${REPORT.published.source}. ${REPORT.published.note}`;
for (const [name, figure] of Object.entries(REPORT.figures))
  if (figure.better && REPORT.clips.some((clip) => clip.figures && clip.figures[name] !== null && clip.figures[name] !== undefined))
    $("#figure").append(make("option", figure.title, { value: name }));
$("#figure").value = "ssim";
for (const method of methods) $("#method").append(make("option", method, { value: method }));
for (const [key, clips] of byKey) {
  const player = new Player(key, clips);
  player.element.dataset.key = key;
  players.set(key, player);
  seen.observe(player.element);
}
for (const line of REPORT.broken) $("#broken ul").append(make("li", line));
$("#broken").hidden = !REPORT.broken.length;
for (const id of ["figure", "method", "kind"]) $(`#${id}`).addEventListener("change", order);
order();
