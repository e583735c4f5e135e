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

function tableOf(rows, groups) {
  const columns = Object.entries(REPORT.figures).filter(
    ([name, f]) => groups.includes(f.group) && rows.some((row) => row[name] !== null && row[name] !== undefined));
  const table = document.createElement("table"), head = table.createTHead().insertRow();
  head.append(make("th", "method"), make("th", "clips"));
  for (const [, f] of columns) head.append(make("th", f.title, { title: f.what + ["; less is better", "", "; more is better"][f.better + 1] }));
  const body = table.createTBody();
  for (const row of rows.filter((row) => columns.some(([name]) => row[name] !== null && row[name] !== undefined))) {
    const line = body.insertRow();
    line.className = row.published ? "published" : "measured";
    line.append(make("td", row.published ? `${row.method}, published` : row.method));
    line.append(make("td", row.failed ? `${row.clips} of ${row.clips + row.failed}` : row.clips));
    for (const [name, figure] of columns) {
      const some = row.measured && row.measured[name] && row.measured[name] !== row.clips ? ` (${row.measured[name]})` : "";
      line.append(make("td", shown(row[name], figure) + some));
    }
  }
  const scroll = make("div", "", { class: "scroll" });
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
    this.slider = $("input", this.element);
    this.slider.max = Math.max(0, this.frames - 1);
    this.slider.addEventListener("input", () => { this.pause(); this.seek(Number(this.slider.value)); });
    this.button = $("button", this.element);
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
    const video = make("video", "", { preload: "auto", playsinline: "", "data-src": ["media", key, file].map(encodeURIComponent).join("/") });
    video.muted = true;
    video.addEventListener("loadedmetadata", () => this.place(video));
    const caption = make("figcaption", name), figure = document.createElement("figure");
    caption.append(make("span", figures));
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
    $("output", this.element).textContent = `${frame + 1} of ${this.frames}`;
  }
}

const players = new Map();
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const player = players.get(entry.target.dataset.key);
    if (entry.isIntersecting) player.load();
    else player.pause();
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
$("#published").textContent = `In italics: ${REPORT.published.source}. ${REPORT.published.note}`;
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
