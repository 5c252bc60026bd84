// The list of events: rows are kept and changed, so that pictures are not loaded again.

const two = (number) => String(Math.floor(number)).padStart(2, "0");

function clock(event) {
  if (event.started_at !== null) return new Date(event.started_at * 1000).toLocaleTimeString("en-GB");
  const seconds = event.started_s;
  return `${two(seconds / 60)}:${two(seconds % 60)}.${Math.floor((seconds * 10) % 10)}`;
}

export class EventList {
  constructor(list, empty, count) {
    Object.assign(this, { list, empty, count });
    this.rows = new Map(); // "stream/event" -> element
  }

  // events: of one stream, the newest first. colours: of its classes. name: of the stream, where there are several.
  update(stream, events, colours, name) {
    const prefix = `${stream}/`;
    const known = new Set(events.map((event) => prefix + event.id));
    for (const [key, row] of this.rows) {
      if (key.startsWith(prefix) && !known.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
    for (const event of [...events].reverse()) {
      const key = prefix + event.id;
      if (!this.rows.has(key)) {
        this.rows.set(key, document.getElementById("event").content.firstElementChild.cloneNode(true));
        this.list.prepend(this.rows.get(key));
      }
      this.fill(this.rows.get(key), stream, event, colours[event.class_index], name);
    }
    const open = this.list.querySelectorAll("li.open").length;
    this.empty.hidden = this.rows.size > 0;
    this.count.textContent = this.rows.size ? `${this.rows.size}${open ? `, ${open} open` : ""}` : "";
  }

  fill(row, stream, event, colour, name) {
    row.classList.toggle("open", event.is_open);
    row.style.setProperty("--class", `rgb(${colour.join(" ")})`);
    row.querySelector("b").textContent = event.class;
    row.querySelector("i").textContent = event.is_open ? "open" : "ended";
    const duration = `${event.is_exact ? "" : "about "}${event.duration_s.toFixed(1)} s`;
    row.querySelector(".when").textContent = `${clock(event)}  ·  ${duration}${name ? `\n${name}` : ""}`;
    const share = (event.peak_share * 100).toFixed(1);
    row.querySelector(".how").textContent = `peak ${share} %  ·  confidence ${Math.round(event.confidence * 100)} %`;
    const image = row.querySelector("img");
    const address = event.picture === null ? "" : `/streams/${stream}/events/${event.id}.jpg?frame=${event.picture}`;
    // A growing lesion has a new best frame at every frame: one picture a second will do.
    const due = !event.is_open || performance.now() - (row.loadedAt || -1e9) > 1000;
    if (address && image.getAttribute("src") !== address && due) {
      image.src = address;
      image.alt = `Best frame of event ${event.id}`;
      row.loadedAt = performance.now();
    }
  }
}
