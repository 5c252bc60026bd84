// One stream's picture with its mask. It is shown while it is young, or while the viewer has paused it; else there is NO SIGNAL.

// A moment, by both clocks: one of them stands still while a laptop sleeps, the other can be set.
const momentsAgo = (milliseconds) => ({ steady: performance.now() - milliseconds, wall: Date.now() - milliseconds });
const since = (moment) => Math.max(performance.now() - moment.steady, Date.now() - moment.wall);

const WARNING = "rgb(255, 200, 60)";

async function decoded(parts, box) {
  const [picture, levels] = await Promise.all([
    createImageBitmap(new Blob([parts.jpeg], { type: "image/jpeg" })),
    box && createImageBitmap(new Blob([parts.levels], { type: "image/png" }), { colorSpaceConversion: "none", premultiplyAlpha: "none" }),
  ]);
  if (!levels) return { picture, levels: null };
  const canvas = new OffscreenCanvas(levels.width, levels.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(levels, 0, 0);
  levels.close();
  return { picture, levels: context.getImageData(0, 0, canvas.width, canvas.height) };
}

// The mask as a picture: tint where a pixel is at least as probable as the threshold, an opaque line at its edge.
function tinted({ data, width, height }, colours, cut, opacity, thickness) {
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const many = colours.length > 2;
  const little = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
  const packed = ([r, g, b], alpha) => (little ? ((alpha << 24) | (b << 16) | (g << 8) | r) : ((r << 24) | (g << 16) | (b << 8) | alpha)) >>> 0;
  const fill = colours.map((colour) => packed(colour, Math.round(opacity * 255)));
  const edge = colours.map((colour) => packed(colour, 255));
  const shown = new Uint8Array(width * height); // the class, 0 where nothing is shown
  for (let i = 0; i < shown.length; i++) {
    if (data[4 * i] >= cut) shown[i] = many ? data[4 * i + 1] : 1;
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      const kind = shown[i];
      if (!kind) continue;
      const inside =
        x >= thickness && x < width - thickness && y >= thickness && y < height - thickness &&
        shown[i - thickness] === kind && shown[i + thickness] === kind &&
        shown[i - thickness * width] === kind && shown[i + thickness * width] === kind;
      out[i] = inside ? fill[kind] : edge[kind];
    }
  }
  return image;
}

export class Stage {
  // stream: as in /streams. settings: {opacity, threshold}, shared by all stages. staleMs: how old what the server sent may become.
  constructor(stream, settings, staleMs) {
    this.stream = stream;
    this.settings = settings;
    this.staleMs = staleMs;
    this.element = document.getElementById("stage").content.firstElementChild.cloneNode(true);
    this.canvas = this.element.querySelector("canvas");
    this.context = this.canvas.getContext("2d");
    this.tint = document.createElement("canvas");
    this.element.querySelector(".name").textContent = stream.name;
    this.canvas.setAttribute("aria-label", `Live picture of ${stream.name}`);
    this.shot = null; // the newest: {header, picture, levels, sentAt}
    this.paused = null; // the one that the viewer has frozen
    this.reason = "connecting";
    this.render();
  }

  // header, parts: of a message. transitMs: at most so long the message was under way.
  async show(header, parts, receivedAt, transitMs) {
    if (!header.signal) return this.lose(header.reason);
    if (!parts) return undefined;
    const drawable = await decoded(parts, header.box);
    const old = this.shot;
    this.shot = { header, ...drawable, sentAt: momentsAgo(performance.now() - receivedAt + transitMs) };
    if (old && old !== this.paused) old.picture.close();
    this.reason = "";
    this.render();
    return undefined;
  }

  lose(reason) {
    if (this.shot && this.shot !== this.paused) this.shot.picture.close();
    this.shot = null;
    this.reason = reason;
    this.render();
  }

  // Called several times a second: time alone makes a picture old.
  tick() {
    if (this.shot && !this.isYoung()) {
      this.lose(`nothing from the server for ${(since(this.shot.sentAt) / 1000).toFixed(1)} s`);
    }
    this.label();
  }

  isYoung() {
    return since(this.shot.sentAt) <= this.staleMs;
  }

  pause(wanted) {
    if (this.paused && this.paused !== this.shot) this.paused.picture.close();
    this.paused = wanted && this.shot && this.isYoung() ? this.shot : null;
    if (this.paused) this.pausedAt = new Date(Date.now() - this.ageOf(this.paused));
    if (!wanted && !(this.shot && this.isYoung())) this.lose("waiting for the next picture");
    this.render();
  }

  // Milliseconds since the picture was captured: as the server measured it when it sent it, and since.
  ageOf(shot) {
    return shot.header.age_ms + since(shot.sentAt);
  }

  get state() {
    return this.paused ? "paused" : this.shot ? "live" : "lost";
  }

  get shown() {
    return this.paused || this.shot;
  }

  render() {
    const shot = this.shown;
    if (shot) this.draw(shot);
    else this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.label();
  }

  draw({ header, picture, levels }) {
    const { canvas, context } = this;
    if (canvas.width !== header.width || canvas.height !== header.height) {
      canvas.width = header.width;
      canvas.height = header.height;
    }
    context.drawImage(picture, 0, 0, header.width, header.height);
    if (!levels) return;
    const { threshold, opacity } = this.settings;
    const cut = threshold > this.stream.threshold ? Math.ceil(threshold * 255) : 1; // at the run's own, all that the run has marked
    const thickness = Math.max(1, Math.round(Math.min(header.width, header.height) / 300));
    this.tint.width = levels.width;
    this.tint.height = levels.height;
    this.tint.getContext("2d").putImageData(tinted(levels, this.stream.colours, cut, opacity, thickness), 0, 0);
    context.drawImage(this.tint, header.box[0], header.box[1]);
  }

  label() {
    const { element, state } = this;
    if (element.dataset.state !== state) element.dataset.state = state;
    element.querySelector(".card span").textContent = this.reason;
    if (!this.shown) this.read();
    if (this.paused) {
      const seconds = Math.round((Date.now() - this.pausedAt) / 1000);
      element.querySelector(".banner").textContent = `PAUSED ${this.pausedAt.toLocaleTimeString("en-GB")}, ${seconds} s ago`;
    }
  }

  // Age in milliseconds and mask area in percent of what is shown, written below it too; null where nothing is.
  read() {
    const shot = this.shown;
    const age = shot && !this.paused ? this.ageOf(shot) : null;
    const share = shot ? shot.header.share * 100 : null;
    const text = shot ? `${share.toFixed(1)} %  ·  ${this.paused ? "not live" : `${age.toFixed(0)} ms`}` : "";
    this.element.querySelector(".reading").textContent = text;
    return { age, share };
  }

  // A canvas with the picture as it is shown and a line that says what it is; null where nothing is shown.
  snapshot(lines) {
    const shot = this.shown;
    if (!shot) return null;
    const { width, height } = this.canvas;
    const size = Math.max(11, Math.round(width / 64));
    const copy = document.createElement("canvas");
    copy.width = width;
    copy.height = height + Math.round((lines.length + 0.8) * 1.5 * size);
    const context = copy.getContext("2d");
    context.fillStyle = "#0a0c0f";
    context.fillRect(0, 0, copy.width, copy.height);
    context.drawImage(this.canvas, 0, 0);
    context.font = `${size}px system-ui, sans-serif`;
    context.textBaseline = "top";
    lines.forEach((line, row) => {
      context.fillStyle = row === lines.length - 1 ? WARNING : "#d6dde6";
      context.fillText(line, size, height + size * (0.8 + 1.5 * row), width - 2 * size);
    });
    return copy;
  }

  get capturedAt() {
    return this.paused ? this.pausedAt : new Date(Date.now() - this.ageOf(this.shot));
  }
}
