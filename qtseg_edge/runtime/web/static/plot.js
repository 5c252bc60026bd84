// A line of the last minute on a small canvas.

const SPAN_MS = 60000;
const STEP_MS = 250;

export class Plot {
  // least: what the axis shows at least, from 0. unit(value): how its upper end is written.
  constructor(canvas, colour, least, unit) {
    Object.assign(this, { canvas, colour, least, unit });
    this.points = []; // {at, value}: the largest of its step; null where there was nothing
  }

  add(value, now = performance.now()) {
    const last = this.points[this.points.length - 1];
    if (last && now - last.at < STEP_MS) {
      if (value !== null && (last.value === null || value > last.value)) last.value = value;
    } else {
      this.points.push({ at: now, value });
    }
    while (this.points[0].at < now - SPAN_MS) this.points.shift();
  }

  draw(now = performance.now()) {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const top = this.top();
    const place = ({ at, value }) => [width * (1 - (now - at) / SPAN_MS), height - 1.5 - (height - 4) * Math.min(1, value / top)];
    this.grid(context, width, height, top);
    context.strokeStyle = this.colour;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    for (const run of this.runs()) {
      context.beginPath();
      run.forEach((point, index) => context[index ? "lineTo" : "moveTo"](...place(point)));
      if (run.length === 1) context.lineTo(place(run[0])[0] + 1, place(run[0])[1]);
      context.stroke();
    }
  }

  grid(context, width, height, top) {
    context.strokeStyle = "#1d242d";
    context.lineWidth = 1;
    context.beginPath();
    for (const x of [0.25, 0.5, 0.75]) {
      context.moveTo(Math.round(width * x) + 0.5, 0);
      context.lineTo(Math.round(width * x) + 0.5, height);
    }
    context.moveTo(0, height - 0.5);
    context.lineTo(width, height - 0.5);
    context.stroke();
    context.fillStyle = "#66758a";
    context.font = "10px system-ui, sans-serif";
    context.textBaseline = "top";
    context.fillText(this.unit(top), 1, 1);
  }

  // 1, 2 or 5 times a power of ten, at least as large as everything shown.
  top() {
    const most = this.points.reduce((largest, { value }) => Math.max(largest, value || 0), this.least);
    const power = 10 ** Math.floor(Math.log10(most));
    return [1, 2, 5, 10].map((step) => step * power).find((end) => end >= most * 0.999);
  }

  // Stretches without a gap.
  runs() {
    const runs = [[]];
    for (const point of this.points) {
      const run = runs[runs.length - 1];
      if (point.value === null) {
        if (run.length) runs.push([]);
      } else if (run.length && point.at - run[run.length - 1].at > 4 * STEP_MS) {
        runs.push([point]);
      } else {
        run.push(point);
      }
    }
    return runs.filter((run) => run.length);
  }
}
