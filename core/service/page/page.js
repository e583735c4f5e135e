// The queue, for people. All text goes in as text, never as markup.
"use strict";

const $ = (selector, root = document) => root.querySelector(selector);

// The token comes behind the # (which no browser sends), and leaves the address at once.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", "/");
}
const token = sessionStorage.getItem("token");

async function ask(path, body) {
  const headers = { Authorization: `Bearer ${token}` };
  const options = body === undefined ? { headers } : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  if (response.headers.get("Content-Type") === "image/png") return response.blob();
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

function say(words) {
  const place = $("#trouble");
  place.textContent = words || "";
  place.hidden = !words;
}

async function act(path, body = {}) {
  try {
    await ask(path, body);
    say("");
  } catch (error) {
    say(error.message);
  }
}

// One element a job, kept from one answer to the next: focus and pictures stay.
const shown = new Map();

function elementOf(job) {
  let element = shown.get(job.id);
  if (!element) {
    element = $("#job").content.firstElementChild.cloneNode(true);
    element.dataset.id = job.id;
    element.pictures = new Map();
    $(".cancel", element).onclick = () => act(`/v1/jobs/${job.id}/cancel`);
    $(".retry", element).onclick = () => act(`/v1/jobs/${job.id}/retry`);
    $(".first", element).onclick = () => act(`/v1/jobs/${job.id}/move`, { before: Number($(".queued")?.dataset.id ?? job.id) });
    shown.set(job.id, element);
  }
  return element;
}

function show(job) {
  const element = elementOf(job);
  if (element.revision === job.revision) return element;
  element.revision = job.revision;
  element.className = `job ${job.state}`;
  $(".prompt", element).textContent = job.recipe.prompt;
  $(".where", element).textContent = `${job.recipe.plate} → ${job.recipe.out}`;
  $(".badge", element).textContent = job.cancelling ? "stopping" : job.state;
  $(".now", element).textContent = now(job);
  const bar = $("progress", element);
  bar.hidden = job.state !== "running";
  if (job.total) bar.value = job.done / job.total;
  else bar.removeAttribute("value");
  const reason = $(".reason", element);
  reason.textContent = [job.reason, ...job.warnings].filter(Boolean).join(" · ");
  reason.hidden = !reason.textContent;
  $(".cancel", element).hidden = !["queued", "running"].includes(job.state) || job.cancelling;
  $(".retry", element).hidden = !["failed", "cancelled"].includes(job.state);
  $(".first", element).hidden = job.state !== "queued" || job.position === 1;
  job.thumbnails.forEach((frame) => picture(element, job.id, frame));
  return element;
}

function now(job) {
  const at = new Date(job.submitted * 1000).toLocaleString();
  if (job.state === "queued") return `number ${job.position} in the queue · ${at}`;
  if (job.state !== "running") return `job ${job.id} · ${at}`;
  const count = job.total ? ` ${job.done} of ${job.total}` : "";
  const frame = job.frame === null ? "" : ` · frame ${job.frame}`;
  const left = job.seconds_left === null ? "" : ` · ${time(job.seconds_left)} left in this stage`;
  return `${job.stage}${count}${frame}${left}`;
}

function time(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

async function picture(element, id, frame) {
  if (element.pictures.has(frame)) return;
  const image = new Image();
  element.pictures.set(frame, image);
  image.alt = `layer of frame ${frame}`;
  image.title = `frame ${frame}`;
  image.dataset.frame = frame;
  try {
    image.src = URL.createObjectURL(await ask(`/v1/jobs/${id}/preview?frame=${frame}`));
    image.onload = () => URL.revokeObjectURL(image.src);
    const later = [...$(".thumbnails", element).children].find((other) => Number(other.dataset.frame) > frame);
    $(".thumbnails", element).insertBefore(image, later ?? null);
  } catch {
    element.pictures.delete(frame);
  }
}

function showAll(jobs) {
  const list = $("#jobs");
  jobs.forEach((job, place) => {
    const element = show(job);
    if (list.children[place] !== element) list.insertBefore(element, list.children[place] ?? null);
  });
  while (list.children.length > jobs.length) {
    shown.delete(Number(list.lastElementChild.dataset.id));
    list.lastElementChild.remove();
  }
  $("#empty").hidden = jobs.length > 0;
}

async function showHealth() {
  const health = await ask("/v1/health");
  const model = health.model ? `${health.model} on ${health.device}` : "no model in memory";
  $("#state").textContent = `worker ${health.worker} · ${model} · ${health.jobs.queued} waiting`;
  $("#unload").hidden = health.worker === "off";
  if (health.trouble) say(health.trouble);
}

async function watch() {
  let revision = "";
  for (;;) {
    try {
      const answer = await ask(`/v1/jobs?wait=25&after=${revision}`);
      revision = answer.revision;
      showAll(answer.jobs);
      await showHealth();
      // A fast job would have it all drawn a hundred times a second.
      await new Promise((resume) => setTimeout(resume, 150));
    } catch (error) {
      if (error.status === 401) {
        $("#state").textContent = "";
        return say("This page needs the key of the running service: open it with vera serve --open");
      }
      $("#state").textContent = "the service does not answer";
      await new Promise((resume) => setTimeout(resume, 2000));
    }
  }
}

$("#unload").onclick = () => act("/v1/model/unload");
watch();
