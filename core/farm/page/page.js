"use strict";
// data.js calls show(...) with the shots as they are; while the farm works, it is looked at again and again.

const LOOK_MS = 2000;
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const WORDS = { waiting: "Waiting", running: "Running", done: "Done", whole: "Whole already", wrong: "Wrong input", failed: "Failed", stopped: "Stopped" };
const $ = (selector, within = document) => within.querySelector(selector);
const plain = (text) => String(text ?? "").replace(STEERING, (c) => `\u2039${c.codePointAt(0).toString(16).padStart(4, "0")}\u203a`);
const rows = new Map();

function time(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = plain(text);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function drawShot(shot) {
  if (!rows.has(shot.number)) {
    rows.set(shot.number, $("#shot").content.firstElementChild.cloneNode(true));
    $("#shots").append(rows.get(shot.number));
  }
  const row = rows.get(shot.number);
  row.className = `shot ${shot.state}`;
  $(".title", row).textContent = plain(shot.name);
  $(".prompt", row).textContent = plain(shot.prompt ?? "");
  const where = shot.host && `${shot.host}, process ${shot.pid}`;
  const begun = shot.begun > 1 && `begun ${shot.begun} times`;
  $(".meta", row).textContent = plain([shot.out ?? shot.where, shot.seconds !== null && time(shot.seconds), where, begun].filter(Boolean).join("  ·  "));
  const bar = $("progress", row);
  bar.hidden = shot.state !== "running";
  bar.setAttribute("aria-label", `progress of ${plain(shot.name)}`);
  if (shot.total) bar.value = shot.done / shot.total;
  else bar.removeAttribute("value");
  const stage = shot.state === "running" ? (shot.stage ? `${shot.stage} ${shot.done} of ${shot.total}` : "begun") : shot.todo ? "see above" : shot.said;
  $(".said", row).textContent = plain([stage, ...shot.warnings].filter(Boolean).join("  ·  "));
  $(".badge", row).textContent = WORDS[shot.state];
  const poster = $(".poster", row);
  if (shot.preview && !poster.href) {
    poster.href = shot.preview;
    poster.setAttribute("aria-label", `Play the preview of ${plain(shot.name)}`);
  }
  if (shot.poster && !poster.firstChild) {
    const image = make("img", "", { alt: "" });
    image.onerror = () => image.remove();
    image.src = shot.poster;
    poster.append(image);
  }
}

function show(farm) {
  farm.shots.forEach(drawShot);
  const counts = Object.keys(WORDS).map((state) => [state, farm.shots.filter((shot) => shot.state === state).length]).filter(([, count]) => count);
  $("#counts").replaceChildren(...counts.map(([state, count]) => make("li", `${count} ${WORDS[state].toLowerCase()}`, { class: state })));
  const over = farm.shots.filter((shot) => !["waiting", "running"].includes(shot.state)).length;
  $("#all").value = over / farm.shots.length;
  $("#state").textContent = farm.ended ? farm.words : `${over} of ${farm.shots.length} shots have ended`;
  $("#at").textContent = `${farm.ended ? "ended" : "as of"} ${new Date(farm.at * 1000).toLocaleString()}, after ${time(farm.at - farm.began)}`;
  document.title = farm.ended ? "Farm: ended" : `Farm: ${over} of ${farm.shots.length}`;
  const todo = farm.shots.filter((shot) => shot.todo);
  $("#attention").hidden = !todo.length;
  $("#attention ul").replaceChildren(...todo.map((shot) => {
    const line = make("li", "");
    line.append(make("strong", shot.name), `: ${plain(shot.todo)}`);
    return line;
  }));
  if (!farm.ended) setTimeout(look, LOOK_MS);
}

// A page from the disk may not fetch, but it may load a script.
function look() {
  const script = make("script", "");
  script.src = `data.js?${Date.now()}`;
  script.onload = () => script.remove();
  script.onerror = () => setTimeout(look, LOOK_MS);
  document.head.append(script);
}

look();
