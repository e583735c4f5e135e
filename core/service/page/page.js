// The service's page: the queue, and what came of it. All text goes in as text, never as markup.
import { Lost, Refused, ask, remember, renew } from "./connection.js";
import { Viewer } from "./viewer.js";
import { make, nameOf, plain, time, when } from "./words.js";

const $ = (selector, root = document) => root.querySelector(selector);
const WAITING_SHOWN = 3; // of a long queue, so that what is finished is near
const RETRY_MS = 1000; // between two looks for a service that went
const PAUSE_MS = 150; // between two drawings: a fast job would have it all drawn a hundred times a second

const SOON = "Pictures appear here as frames are delivered.";
const STATES = { queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" };
const FILTERS = [
  ["all", "All", () => true],
  ["queue", "Queue", (job) => ["running", "queued"].includes(job.state)],
  ["done", "Done", (job) => job.state === "done"],
  ["look", "Look", (job) => job.state === "done" && job.warnings.length > 0],
  ["failed", "Failed", (job) => ["failed", "cancelled"].includes(job.state)],
];
// What of a recipe another delivery of kept layers can change; choices and limits come from the API's description.
const DELIVERY = ["blend_space", "layer_space", "layer_mode", "layer_type", "compression", "also"];
// What of a recipe the list of facts shows in other words, or not.
const TOLD = ["plate", "prompt", "out", "model", "seed", "steps", "frames", "schema"];

let jobs = [];
let byId = new Map();
let health = null;
let filter = "all";
let unfolded = false;
let chosen = null; // the id of the job in the detail
let detailed = ""; // of which revision the detail is
let lost = false;
let description = null;
const rows = new Map();
const posters = new Map(); // id -> promise of a picture's address, or null
const strips = new Map(); // "id.frame" -> the same
const viewer = new Viewer();

// ---- Words --------------------------------------------------------------------------

function say(words) {
  $("#trouble p").textContent = words || "";
  $("#trouble").hidden = !words;
}

function announce(words) {
  $("#said").textContent = plain(words);
}

function stateOf(job) {
  if (lost && ["running", "queued"].includes(job.state)) return ["unknown", job.state === "running" ? "Was running" : "Kept"];
  if (job.cancelling) return ["stopping", "Stopping"];
  if (job.state === "done" && job.warnings.length) return ["look", "Done, look"];
  return [job.state, STATES[job.state]];
}

function takesOf(job) {
  const { plate, prompt, model } = job.recipe;
  return jobs
    .filter(({ recipe }) => recipe.plate === plate && recipe.prompt === prompt && recipe.model === model)
    .sort((a, b) => a.id - b.id);
}

const isLift = (job) => String(job.recipe.model ?? "").startsWith("lift:");
const secondsOf = (job) => (job.started && job.ended ? job.ended - job.started : null);

function metaOf(job) {
  const facts = job.facts ?? {};
  return [
    nameOf(job.recipe.out),
    isLift(job) ? "lift" : `seed ${job.recipe.seed ?? 0}`,
    facts.frames && `${facts.frames} frame${facts.frames === 1 ? "" : "s"}`,
    facts.width && `${facts.width} × ${facts.height}`,
  ].filter(Boolean).join("  ·  ");
}

function nowOf(job) {
  if (job.state === "queued") return job.position === 1 ? "next" : `number ${job.position} in the queue`;
  if (job.state === "done") return [when(job.ended), secondsOf(job) !== null && `took ${time(secondsOf(job))}`].filter(Boolean).join("  ·  ");
  if (job.state !== "running") return job.ended ? when(job.ended) : "";
  if (job.stage === "finish") return "writing the preview, checking files";
  const count = job.total > 1 ? ` ${job.done} of ${job.total}` : "";
  const frame = job.frame === null ? "" : `, frame ${job.frame}`;
  return `${job.stage ?? "start"}${count}${frame}`;
}

// Of the whole job where that is known, of its stage else.
function leftOf(job) {
  if (job.state !== "running" || lost) return "";
  if (job.job_seconds_left !== null) return `about ${time(job.job_seconds_left)} left`;
  return job.seconds_left >= 1 ? `${time(job.seconds_left)} left of this stage` : "";
}

// ---- What a person does -------------------------------------------------------------

async function act(path, body = {}) {
  try {
    const answer = await ask(path, body);
    say("");
    return answer;
  } catch (error) {
    if (!(error instanceof Lost)) say(error.message); // what is lost is said already
    return null;
  }
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    announce(`${what} copied`);
    return true;
  } catch {
    say(`The browser lets no page copy; ${what}: ${plain(text)}`);
    return false;
  }
}

// A button that copies text(), and says so for a moment in its first words.
function copying(button, text, what) {
  const first = button.firstChild, words = first.textContent;
  button.onclick = async () => {
    if (!(await copy(text(), what))) return;
    first.textContent = "Copied";
    setTimeout(() => (first.textContent = words), 1500);
  };
  return button;
}

const recipeOf = (job) => JSON.stringify({ schema: "vera.recipe/1", ...job.recipe }, null, 2);

async function again(job, body) {
  const made = await act(`/v1/jobs/${job.id}/again`, body);
  if (made) announce(`job ${made.id} is in the queue: ${made.recipe.prompt}`);
  return made;
}

async function play(job) {
  choose(job.id, true);
  try {
    viewer.say("Loading the preview");
    const blob = await ask(`/v1/jobs/${job.id}/result?name=preview.mp4`);
    if (chosen === job.id) viewer.load(job, blob);
  } catch (error) {
    if (chosen === job.id) viewer.say(error.status ? `No preview: ${error.message}` : error.message);
  }
}

// What can be done with a job. row: also in the list; main: the first choice; local: without the service too.
const ACTIONS = [
  { name: "Play", row: true, main: true, for: (job) => job.state === "done", act: play },
  { name: "Folder", row: true, for: (job) => job.state === "done" && health?.shows_folders, act: (job) => act(`/v1/jobs/${job.id}/show`) },
  { name: "Copy path", row: (job) => !health?.shows_folders, for: (job) => job.state === "done", copies: (job) => job.recipe.out, local: true },
  { name: "Again", row: true, for: (job) => job.state === "done" && !isLift(job), act: (job) => again(job, { another_seed: true }), hint: "Another take: the next seed, in the folder's next version" },
  { name: "Retry", row: true, main: true, for: (job) => ["failed", "cancelled"].includes(job.state), act: (job) => act(`/v1/jobs/${job.id}/retry`) },
  { name: "Change…", for: () => true, act: (job) => openChange(job) },
  { name: "Deliver again…", for: (job) => job.state === "done" && job.recipe.keep, act: (job) => openDelivery(job) },
  { name: "Copy recipe", for: () => true, copies: recipeOf, local: true },
  { name: "To front", row: true, for: (job) => job.state === "queued" && job.position > 1, act: (job) => move(job, 1) },
  { name: "Earlier", for: (job) => job.state === "queued" && job.position > 2, act: (job) => move(job, job.position - 1) },
  { name: "Later", for: (job) => job.state === "queued" && job.position < waiting().length, act: (job) => move(job, job.position + 2) },
  { name: "Cancel", row: true, for: (job) => ["queued", "running"].includes(job.state) && !job.cancelling, act: (job) => act(`/v1/jobs/${job.id}/cancel`) },
  { name: "Clear", for: (job) => ["done", "failed", "cancelled"].includes(job.state), act: (job) => clear([job]), hint: "Off this list; its files stay" },
];

const waiting = () => jobs.filter((job) => job.state === "queued");

// position: the place that the job at present there gives way from, from 1.
function move(job, position) {
  const before = waiting().find((other) => other.position === position);
  return act(`/v1/jobs/${job.id}/move`, { before: before?.id ?? null });
}

async function clear(some) {
  const gone = await act("/v1/jobs/clear", { jobs: some.map((job) => job.id) });
  if (gone) announce(`${gone.jobs.length} cleared`);
}

function buttonsOf(job, inRow) {
  return ACTIONS.filter((action) => {
    const wanted = typeof action.row === "function" ? action.row(job) : action.row;
    return (!inRow || wanted) && action.for(job);
  }).map((action) => {
    const button = make("button", action.name, { "data-action": action.name });
    button.append(make("span", ` (${shortened(job.recipe.prompt)})`, { class: "hidden" }));
    if (action.hint) button.title = action.hint;
    if (action.main && !inRow) button.className = "primary";
    button.disabled = lost && !action.local;
    if (action.copies) return copying(button, () => action.copies(byId.get(job.id) ?? job), action.name.replace("Copy ", ""));
    button.onclick = () => action.act(byId.get(job.id) ?? job);
    return button;
  });
}

const shortened = (text) => (text.length > 60 ? `${text.slice(0, 60)}…` : text);

// The buttons of a place, kept while they are the same: so focus stays on them.
function putButtons(place, job, inRow) {
  const made = buttonsOf(job, inRow), names = made.map((button) => `${button.dataset.action}${button.disabled}`).join();
  if (place.dataset.buttons === `${job.id}:${names}`) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.action : null;
  place.dataset.buttons = `${job.id}:${names}`;
  place.replaceChildren(...made);
  if (!focused) return;
  const same = made.find((button) => button.dataset.action === focused && !button.disabled);
  (same ?? (inRow ? $(".pick", place.parentElement) : $("#detail"))).focus({ preventScroll: true });
}

// ---- The dialogs --------------------------------------------------------------------

function field(name, label, value, schema = {}) {
  const place = make("label", "");
  place.append(make("span", label));
  let input;
  if (schema.enum) {
    input = make("select");
    input.append(...schema.enum.map((one) => make("option", one, { value: one })));
    input.value = value ?? schema.enum[0];
  } else if (name === "prompt") {
    input = make("textarea", "", { rows: 3, required: "" });
    input.value = value ?? "";
  } else {
    input = make("input", "", { type: name === "seed" ? "number" : "text" });
    input.value = value ?? "";
  }
  input.name = name;
  place.append(input);
  return place;
}

function choices(name, label, value, schema) {
  const place = make("fieldset", "");
  place.append(make("legend", label));
  for (const one of schema.items.enum) {
    const box = make("input", "", { type: "checkbox", name, value: one }), line = make("label", "");
    box.checked = (value ?? []).includes(one);
    line.append(box, one);
    place.append(line);
  }
  return place;
}

function openForm(title, fields, submit) {
  const dialog = $("#change"), form = $("form", dialog);
  $("h2", dialog).textContent = title;
  $(".fields", dialog).replaceChildren(...fields);
  $(".wrong", dialog).textContent = "";
  form.onsubmit = async (event) => {
    event.preventDefault();
    try {
      await submit(new FormData(form));
      dialog.close();
    } catch (error) {
      $(".wrong", dialog).textContent = plain(error.message);
    }
  };
  dialog.showModal();
}

for (const dialog of document.querySelectorAll("dialog")) $(".cancel", dialog).onclick = () => dialog.close();

function openChange(job) {
  const seeds = takesOf(job).map((take) => take.recipe.seed ?? 0);
  const fields = [field("prompt", "Prompt", job.recipe.prompt)];
  if (!isLift(job)) fields.push(field("seed", "Seed", Math.max(...seeds) + 1));
  const folder = field("out", "Folder", "");
  $("input", folder).placeholder = `next version of ${job.recipe.out}`;
  fields.push(folder);
  openForm("A new version", fields, async (values) => {
    const change = { prompt: values.get("prompt") };
    if (values.get("seed")) change.seed = Number(values.get("seed"));
    if (values.get("out")) change.out = values.get("out");
    const made = await ask(`/v1/jobs/${job.id}/again`, { change });
    announce(`job ${made.id} is in the queue`);
  });
}

async function openDelivery(job) {
  description ??= await ask("/v1/openapi.json").catch(() => null);
  if (!description) return say("The service does not say what it can deliver.");
  const known = description.components.schemas.Recipe.properties;
  const fields = DELIVERY.filter((name) => known[name]).map((name) => {
    const label = name[0].toUpperCase() + name.slice(1).replace("_", " ");
    return known[name].items ? choices(name, label, job.recipe[name], known[name]) : field(name, label, job.recipe[name], known[name]);
  });
  openForm("Deliver again, from what was kept", fields, async (values) => {
    const change = {};
    for (const name of DELIVERY) {
      if (known[name]?.items) change[name] = values.getAll(name);
      else if (values.get(name)) change[name] = values.get(name);
    }
    const made = await ask(`/v1/jobs/${job.id}/again`, { change, same_folder: true });
    announce(`job ${made.id} is in the queue`);
  });
}

$("#clear").onclick = () => {
  const some = jobs.filter((job) => ["done", "failed", "cancelled"].includes(job.state) && fits(job));
  $("#sure h2").textContent = some.length === 1 ? "Clear one finished job?" : `Clear ${some.length} finished jobs?`;
  $("#sure form").onsubmit = (event) => {
    event.preventDefault();
    clear(some);
    $("#sure").close();
  };
  $("#sure").showModal();
};

// ---- The list -----------------------------------------------------------------------

function fits(job) {
  const words = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [job.id, job.recipe.prompt, job.recipe.out, job.recipe.plate, job.recipe.model, `seed ${job.recipe.seed ?? 0}`].join(" ").toLowerCase();
  return FILTERS.find(([name]) => name === filter)[2](job) && words.every((word) => text.includes(word));
}

function rowOf(job) {
  let row = rows.get(job.id);
  if (!row) {
    row = $("#row").content.firstElementChild.cloneNode(true);
    row.dataset.id = job.id;
    $(".pick", row).onclick = () => {
      const now = byId.get(job.id);
      if (now.state === "done" && !lost) play(now);
      else choose(job.id, true);
    };
    rows.set(job.id, row);
  }
  return row;
}

function drawRow(job) {
  const row = rowOf(job), [state, words] = stateOf(job), takes = takesOf(job);
  const sign = [job.revision, lost, health?.shows_folders, takes.length, chosen === job.id, waiting().length].join();
  if (row.sign === sign) return row;
  row.sign = sign;
  row.className = `row ${state}`;
  $(".prompt", row).textContent = plain(job.recipe.prompt);
  const take = takes.length > 1 ? `take ${takes.indexOf(job) + 1} of ${takes.length}  ·  ` : "";
  $(".meta", row).textContent = plain(take + metaOf(job));
  $(".now", row).textContent = [nowOf(job), leftOf(job)].filter(Boolean).join("  ·  ");
  $(".badge", row).textContent = words;
  $(".pick", row).setAttribute("aria-current", String(chosen === job.id));
  const bar = $("progress", row);
  bar.hidden = job.state !== "running";
  bar.setAttribute("aria-label", `progress of ${shortened(plain(job.recipe.prompt))}`);
  if (job.progress !== null && job.progress !== undefined) bar.value = job.progress;
  else bar.removeAttribute("value");
  putButtons($(".act", row), job, true);
  if (job.poster || job.thumbnails.length) showPoster(job, $(".poster", row));
  return row;
}

function picture(store, key, path) {
  if (!store.has(key)) {
    const made = ask(path).then((blob) => URL.createObjectURL(blob));
    store.set(key, made);
    made.catch(() => store.delete(key));
  }
  return store.get(key);
}

// The composite where there is one, the latest frame of the layer before.
function posterOf(job) {
  if (job.poster) return picture(posters, `${job.id}`, `/v1/jobs/${job.id}/preview?view=poster`);
  const frame = job.thumbnails.at(-1);
  return frame === undefined ? Promise.resolve(null) : picture(strips, `${job.id}.${frame}`, `/v1/jobs/${job.id}/preview?frame=${frame}`);
}

async function showPoster(job, place) {
  const url = await posterOf(job).catch(() => null);
  if (!url || place.dataset.url === url) return;
  place.dataset.url = url;
  place.replaceChildren(Object.assign(new Image(), { src: url, alt: "" }));
}

function put(list, wanted) {
  const keep = new Set(wanted);
  for (const child of [...list.children]) if (!keep.has(child) && !rows.has(Number(child.dataset.id))) child.remove();
  let at = list.firstElementChild;
  for (const row of wanted) {
    while (at && !keep.has(at)) at = at.nextElementSibling;
    if (row === at) {
      at = at.nextElementSibling;
      continue;
    }
    list.insertBefore(row, at); // takes the focus away; drawList gives it back
  }
  for (const child of [...list.children]) if (!keep.has(child)) child.remove();
}

function drawList() {
  const focused = document.activeElement, row = focused?.closest?.(".row");
  const shown = jobs.filter(fits), narrowed = filter !== "all" || $("#search").value.trim() !== "";
  const parts = {
    running: shown.filter((job) => job.state === "running"),
    waiting: shown.filter((job) => job.state === "queued"),
    ended: shown.filter((job) => ["done", "failed", "cancelled"].includes(job.state)),
  };
  const folds = !narrowed && parts.waiting.length > WAITING_SHOWN + 1;
  const counts = { waiting: parts.waiting.length, ended: parts.ended.length };
  if (folds && !unfolded) parts.waiting = parts.waiting.slice(0, WAITING_SHOWN);
  const wanted = Object.fromEntries(Object.entries(parts).map(([name, some]) => [name, some.map(drawRow)]));
  for (const [name, some] of Object.entries(wanted)) {
    const section = $(`[data-part=${name}]`);
    section.hidden = !some.length;
    put($("ul", section), some);
    if (name in counts) $("h2 span", section).textContent = counts[name];
  }
  for (const [id, each] of rows) {
    if (byId.has(id)) continue;
    each.remove();
    rows.delete(id);
  }
  $("#more").hidden = !folds;
  $("#more").setAttribute("aria-expanded", String(unfolded));
  $("#more").textContent = unfolded ? "Show fewer" : `Show all ${counts.waiting} waiting`;
  $("#clear").disabled = lost;
  $("#empty").hidden = jobs.length > 0;
  $("#tools").hidden = jobs.length === 0;
  $("#none").hidden = jobs.length === 0 || shown.length > 0;
  drawFilters();
  if (focused && focused !== document.activeElement && focused !== document.body) {
    if (focused.isConnected) focused.focus({ preventScroll: true });
    else if (row?.isConnected && document.activeElement === document.body) $(".pick", row).focus({ preventScroll: true });
  }
}

function drawFilters() {
  const place = $("#filters");
  if (!place.children.length) {
    for (const [name, words] of FILTERS) {
      const button = make("button", words, { "data-filter": name });
      button.append(make("span", ""));
      button.onclick = () => {
        filter = name;
        drawList();
      };
      place.append(button);
    }
  }
  for (const [name, , holds] of FILTERS) {
    const button = $(`[data-filter=${name}]`, place), count = jobs.filter(holds).length;
    $("span", button).textContent = ` ${count}`;
    button.setAttribute("aria-pressed", String(filter === name));
    button.hidden = name !== "all" && name !== filter && count === 0;
  }
}

$("#more").onclick = () => {
  unfolded = !unfolded;
  drawList();
};
$("#search").oninput = drawList;
$("#all").onclick = () => {
  filter = "all";
  $("#search").value = "";
  drawList();
  $("#search").focus();
};
$("#lists").addEventListener("keydown", (event) => {
  if (!["ArrowDown", "ArrowUp"].includes(event.key)) return;
  const picks = [...document.querySelectorAll(".row .pick")], at = picks.indexOf(event.target.closest(".row")?.querySelector(".pick"));
  const next = picks[at + (event.key === "ArrowDown" ? 1 : -1)];
  if (at < 0 || !next) return;
  event.preventDefault();
  next.focus();
});

// ---- The chosen job -----------------------------------------------------------------

function choose(id, byHand = false) {
  const other = chosen !== id;
  chosen = id;
  if (other) {
    detailed = "";
    viewer.clear();
  }
  if (byHand) document.body.classList.add("chosen");
  drawList();
  drawDetail();
  if (byHand && matchMedia("(max-width: 900px)").matches) $("#back").focus();
}

$("#screen img").onclick = () => byId.get(chosen)?.state === "done" && !lost && play(byId.get(chosen));
$("#back").onclick = () => {
  document.body.classList.remove("chosen");
  viewer.video.pause();
  const row = rows.get(chosen);
  if (row?.isConnected) $(".pick", row).focus();
};

function drawDetail() {
  const job = byId.get(chosen);
  $("#detail").hidden = !job;
  if (!job) return;
  const takes = takesOf(job), [state, words] = stateOf(job);
  const sign = [job.id, job.revision, lost, health?.shows_folders, takes.map((take) => take.id + take.state), waiting().length].join();
  if (sign === detailed) return;
  detailed = sign;
  $("#badge").className = `badge ${state}`;
  $("#badge").textContent = words;
  $("#takes-of").textContent = [job.state === "running" || job.state === "queued" ? nowOf(job) : "", leftOf(job)].filter(Boolean).join("  ·  ");
  $("#prompt").textContent = plain(job.recipe.prompt);
  $("#warnings").replaceChildren(...job.warnings.map((line) => make("li", line)));
  $("#warnings").hidden = !job.warnings.length;
  $("#reason").textContent = plain(job.reason ?? "");
  $("#reason").hidden = !job.reason;
  putButtons($("#actions"), job, false);
  drawStrip(job);
  $("#facts").replaceChildren(...factsOf(job).flatMap(([name, value]) => [make("dt", name), make("dd", value)]));
  drawTakes(job, takes);
  drawStill(job);
}

// In the viewer, until the preview is played.
function drawStill(job) {
  const hasPicture = job.thumbnails.length > 0 || job.poster;
  $("#viewer").hidden = !hasPicture && !["running", "done"].includes(job.state);
  if (viewer.job) return;
  if (job.state === "running" && !hasPicture) viewer.say(SOON);
  else if (viewer.words.textContent === SOON) viewer.say("");
  $("#screen img").classList.toggle("playable", job.state === "done");
  posterOf(job).then((url) => chosen === job.id && !viewer.job && viewer.poster(url)).catch(() => {});
}

function factsOf(job) {
  const facts = job.facts ?? {}, recipe = job.recipe, report = job.report ?? {}, took = secondsOf(job);
  const percent = (value) => (value === undefined ? null : `${(100 * value).toFixed(1)} %`);
  const known = [
    ["Folder", recipe.out],
    ["Plate", recipe.plate],
    ["Frames", facts.frames ? `${facts.first} to ${facts.last} (${facts.frames})` : recipe.frames],
    ["Size", facts.width && `${facts.width} × ${facts.height}${facts.fps ? `, ${Number(facts.fps.toFixed(3))} frames a second` : ""}`],
    ["Model", recipe.model ?? facts.model ?? "mini"],
    ["Seed", isLift(job) ? null : recipe.seed ?? 0],
    ["Steps", facts.steps ?? recipe.steps],
    ["Layer covers", percent(report.coverage)],
    ["Agreement", report.agreement_psnr === undefined ? null : `${report.agreement_psnr} dB with the model's own composite`],
    ["Submitted", when(job.submitted)],
    ["Took", took === null ? null : time(took)],
    ["Ended", job.ended ? when(job.ended) : null],
    ["Job", job.id],
  ];
  const rest = Object.entries(recipe)
    .filter(([name, value]) => !TOLD.includes(name) && value !== null && value !== false && !(Array.isArray(value) && !value.length))
    .map(([name, value]) => [name[0].toUpperCase() + name.slice(1).replaceAll("_", " "), value === true ? "yes" : Array.isArray(value) ? value.join(", ") : value]);
  return [...known, ...rest].filter(([, value]) => value !== null && value !== undefined && value !== "");
}

function drawStrip(job) {
  const place = $("#strip");
  const sign = `${job.id}:${job.thumbnails}`;
  if (place.dataset.sign === sign) return;
  place.dataset.sign = sign;
  place.hidden = !job.thumbnails.length;
  place.replaceChildren(...job.thumbnails.map((frame) => {
    const figure = make("figure"), image = Object.assign(new Image(), { alt: `the layer at frame ${frame}` });
    picture(strips, `${job.id}.${frame}`, `/v1/jobs/${job.id}/preview?frame=${frame}`).then((url) => (image.src = url)).catch(() => figure.remove());
    figure.append(image, make("figcaption", frame));
    return figure;
  }));
}

function drawTakes(job, takes) {
  $("#takes").hidden = takes.length < 2;
  $("#takes ul").replaceChildren(...takes.map((take) => {
    const line = make("li"), button = make("button", `${nameOf(take.recipe.out)}  ·  seed ${take.recipe.seed ?? 0}  ·  ${stateOf(take)[1].toLowerCase()}`);
    button.setAttribute("aria-current", String(take.id === job.id));
    button.onclick = () => (take.state === "done" && !lost ? play(take) : choose(take.id, true));
    line.append(button);
    return line;
  }));
}

// ---- The service --------------------------------------------------------------------

function showJobs(answer) {
  const former = byId;
  jobs = answer;
  byId = new Map(jobs.map((job) => [job.id, job]));
  for (const job of jobs) {
    const before = former.get(job.id);
    if (before && before.state !== job.state && ["done", "failed", "cancelled"].includes(job.state)) announce(`${STATES[job.state]}: ${shortened(job.recipe.prompt)}`);
  }
  if (chosen === null || !byId.has(chosen)) {
    const first = jobs.find((job) => job.state === "running") ?? jobs.find((job) => job.state === "done") ?? jobs[0];
    if (chosen !== null) document.body.classList.remove("chosen");
    chosen = null;
    if (first) choose(first.id);
  }
  drawList();
  drawDetail();
}

function showHealth() {
  const model = health.model ? `${nameOf(health.model)} on ${health.device}` : "no model in memory";
  const worker = { off: "idle", starting: "starting", ready: "ready", working: "working" }[health.worker];
  const { running, queued } = health.jobs;
  const count = running || queued ? `${running ? "1 running, " : ""}${queued} waiting` : "";
  $("#state").textContent = [worker, model, count].filter(Boolean).join("  ·  ");
  $("#unload").hidden = health.worker === "off";
  document.title = running ? `Vera: ${queued + 1} to do` : "Vera";
  if (health.trouble) say(health.trouble);
  else if ($("#trouble p").textContent === showHealth.trouble) say("");
  showHealth.trouble = health.trouble ?? "";
}

function setLost(value) {
  if (lost === value) return;
  lost = value;
  document.body.classList.toggle("lost", lost);
  $("#lost").hidden = !lost;
  $("#unload").disabled = lost;
  if (lost) {
    $("#state").textContent = "not connected";
    document.title = "Vera: not connected";
  } else announce("the service is back");
  drawList();
  drawDetail();
}

const later = (milliseconds) => new Promise((resume) => setTimeout(resume, milliseconds));

async function watch() {
  let revision = "";
  for (;;) {
    try {
      const answer = await ask(`/v1/jobs?wait=25&after=${revision}`);
      await remember();
      health = await ask("/v1/health");
      revision = answer.revision;
      setLost(false);
      showJobs(answer.jobs);
      showHealth();
      await later(PAUSE_MS);
    } catch (error) {
      if (!(error instanceof Lost) && !(error instanceof Refused)) throw error;
      if (error.status === 503) {
        await later(RETRY_MS);
        continue;
      }
      if (error.status === 401 && (await renewed())) continue;
      if (error.status === 401 && !jobs.length) return locked();
      setLost(true);
      revision = "";
      await later(RETRY_MS);
      await renewed();
    }
  }
}

// Whether the service that runs now has given its token.
const renewed = () => renew().then(() => true, () => false);

function locked() {
  $("#state").textContent = "";
  say("This page needs the key of the running service: open it with vera serve --open");
}

$("#trouble button").onclick = () => say("");
copying($("#copy-start"), () => "vera serve", "command");
$("#unload").onclick = () => act("/v1/model/unload");
watch();
