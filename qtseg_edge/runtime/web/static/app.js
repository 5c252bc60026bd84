// Puts the page together. Everything it shows comes from this server.

import { EventList } from "/static/events.js";
import { Link } from "/static/link.js";
import { Plot } from "/static/plot.js";
import { Stage } from "/static/stage.js";

const byId = (id) => document.getElementById(id);
const TICK_MS = 100;
const RECENT_MS = 1500;
const TICKS_TO_READ = 3; // numbers that change faster cannot be read

const settings = { opacity: 0.35, threshold: 0 };
const plots = {
  age: new Plot(byId("age-plot"), "#6ab0ff", 100, (top) => `${top} ms`),
  fps: new Plot(byId("fps-plot"), "#b9a2ff", 10, (top) => `${top} fps`),
  share: new Plot(byId("share-plot"), "#00c878", 1, (top) => `${top} %`),
};
const eventList = new EventList(byId("events"), byId("no-events"), byId("events-count"));
let run = null;
let channels = []; // {stream, stage, link, status, values}
let selected = null;
let paused = false;

async function start() {
  let answer;
  try {
    answer = await fetch("/streams");
    if (answer.status === 401) return location.assign("/login");
    run = await answer.json();
  } catch {
    return setTimeout(start, 500);
  }
  if (!run.streams.length) return setTimeout(start, 500); // the run is still opening them
  byId("notice").textContent = run.notice;
  channels = run.streams.map(open);
  byId("stages").dataset.count = channels.length;
  select(channels[0]);
  setInterval(tick, TICK_MS);
  return undefined;
}

function open(stream) {
  const stage = new Stage(stream, settings, run.stale_ms);
  const channel = { stream, stage, status: null, values: null };
  byId("stages").append(stage.element);
  stage.element.addEventListener("click", () => select(channel));
  stage.element.addEventListener("focus", () => select(channel));
  if (run.streams.length > 1) stage.element.tabIndex = 0;
  channel.link = new Link(
    stream.number,
    (header, parts, receivedAt, transitMs) => received(channel, header, parts, receivedAt, transitMs),
    (reason) => {
      channel.status = null;
      stage.lose(reason);
      tellState();
    },
  );
  return channel;
}

async function received(channel, header, parts, receivedAt, transitMs) {
  if (header.run !== run.run) return location.reload(); // another run answers here now
  if (header.status) channel.status = header.status;
  if (header.events) {
    eventList.update(channel.stream.number, header.events, channel.stream.colours, channels.length > 1 ? channel.stream.name : "");
  }
  await channel.stage.show(header, parts, receivedAt, transitMs);
  tellState();
  const ageNow = header.signal ? header.age_ms + transitMs + performance.now() - receivedAt : null;
  note(channel, { age: ageNow, fps: channel.status ? channel.status.fps : null, share: header.signal ? header.share * 100 : null });
  return undefined;
}

function note(channel, values) {
  channel.values = { ...values, at: performance.now() };
  if (channel !== selected) return;
  for (const name of Object.keys(plots)) plots[name].add(values[name]);
}

function select(channel) {
  if (selected !== channel) for (const plot of Object.values(plots)) plot.points = [];
  selected = channel;
  for (const { stage } of channels) stage.element.classList.toggle("selected", channels.length > 1 && stage === channel.stage);
  const { threshold } = channel.stream;
  const slider = byId("threshold");
  slider.min = threshold;
  slider.max = 0.99;
  slider.value = Math.max(settings.threshold, threshold);
  byId("source").textContent = channel.stream.name;
  document.title = `${channel.stream.name} – qtseg-edge live`;
  adjust();
  tell(channel);
}

function adjust() {
  settings.opacity = Number(byId("opacity").value) / 100;
  settings.threshold = Number(byId("threshold").value);
  byId("opacity-value").textContent = `${byId("opacity").value} %`;
  byId("threshold-value").textContent = `${Math.round(settings.threshold * 100)} %`;
  for (const { stage } of channels) stage.render();
}

function setPaused(wanted) {
  paused = wanted;
  for (const { stage, link } of channels) {
    stage.pause(wanted);
    link.wantsPicture = !wanted;
  }
  paused = wanted && channels.some(({ stage }) => stage.paused);
  for (const { link } of channels) link.wantsPicture = !paused;
  const button = byId("pause");
  button.setAttribute("aria-pressed", String(paused));
  button.querySelector("span").textContent = paused ? "Go live" : "Pause";
  tell(selected);
}

let ticks = 0;

function tick() {
  for (const { stage } of channels) stage.tick();
  tellState();
  if (ticks++ % TICKS_TO_READ) return;
  for (const { stage } of channels) if (stage !== selected.stage) stage.read();
  tell(selected);
  for (const plot of Object.values(plots)) plot.draw();
}

const STATES = { live: "LIVE", paused: "PAUSED", lost: "NO SIGNAL" };

// At once, whenever it may have changed: of the selected stream.
function tellState() {
  if (!selected) return;
  const { stage, stream } = selected;
  const text = stage.state === "live" && !stream.live ? "FILE" : STATES[stage.state];
  const state = byId("state");
  if (state.textContent === text) return;
  state.dataset.state = stage.state;
  state.textContent = text;
}

function tell(channel) {
  const { stage, status } = channel;
  tellState();
  byId("clock").textContent = new Date().toLocaleTimeString("en-GB");
  byId("snapshot").disabled = !stage.shown;
  figures(channel);
  if (!status) return;
  byId("engine").textContent = `${status.model} on ${status.engine}`;
  byId("frames").textContent = status.frames.toLocaleString("en");
  const dropped = Object.entries(status.dropped);
  byId("dropped").textContent = dropped.length ? dropped.map(([reason, frames]) => `${frames.toLocaleString("en")} ${reason}`).join(", ") : "0";
  byId("reopened").textContent = status.reopened;
  byId("uptime").textContent = duration(status.uptime_s);
  sinks(status.sinks);
}

function figures({ stage, status, values }) {
  const shown = stage.read();
  const recent = values && performance.now() - values.at < RECENT_MS ? values : {};
  const now = stage.state === "live" ? shown : recent; // behind a paused picture the run goes on
  const text = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  byId("age").textContent = text(now.age, 0);
  byId("fps").textContent = status ? text(recent.fps, 1) : "–";
  byId("share").textContent = text(now.share, 1);
}

function sinks(list) {
  const element = byId("sinks");
  const text = JSON.stringify(list.map(({ name, error }) => [name, error]));
  if (element.dataset.shown === text) return;
  element.dataset.shown = text;
  element.replaceChildren(
    ...list.map(({ name, error }) => {
      const item = document.createElement("li");
      item.className = error ? "failed" : "works";
      item.textContent = error ? `${name}: ${error}` : name;
      return item;
    }),
  );
}

function duration(seconds) {
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

function saveSnapshot() {
  const { stage, stream } = selected;
  if (!stage.shown) return;
  const at = stage.capturedAt;
  const stamp = new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  const model = selected.status ? `${selected.status.model} on ${selected.status.engine}` : "";
  const canvas = stage.snapshot([
    `${stream.name}   captured ${stamp.replace("T", " ")}   ${model}   shown from ${Math.round(settings.threshold * 100)} % on`,
    run.notice,
  ]);
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `qtseg-edge-${stream.name.replace(/[^\w.]+/g, "-").slice(0, 60)}-${stamp.replace(/[-:]/g, "").replace("T", "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }, "image/png");
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else if (selected) selected.stage.element.requestFullscreen().catch(() => {});
}

byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("opacity").addEventListener("input", adjust);
byId("threshold").addEventListener("input", adjust);
byId("pause").addEventListener("click", () => channels.length && setPaused(!paused));
byId("snapshot").addEventListener("click", saveSnapshot);
byId("full").addEventListener("click", fullScreen);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const onButton = event.target instanceof HTMLButtonElement;
  if (event.code === "Space" && !onButton && channels.length) {
    event.preventDefault();
    setPaused(!paused);
  } else if (event.key === "f" || event.key === "F") {
    fullScreen();
  }
});
document.addEventListener("visibilitychange", () => {
  for (const { stage } of channels) {
    if (document.hidden && stage.state === "live") stage.lose("this page was not looked at");
    stage.tick();
  }
});

start();
