// The connection to one stream: asks for the newest, gets it, and tries again for as long as there is nobody to ask.

const RETRY_MS = 500;
const SILENT_MS = 3000; // the server answers every half second, with a picture or without

export class Link {
  // onMessage(header, parts, receivedAt, transitMs); parts is {jpeg, levels} where there is a picture. onLost(reason): there is no connection.
  constructor(stream, onMessage, onLost) {
    this.url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/streams/${stream}/live`;
    this.onMessage = onMessage;
    this.onLost = onLost;
    this.wantsPicture = true;
    this.askedAt = 0;
    this.heardAt = performance.now();
    this.connect();
    setInterval(() => this.watch(), 500);
  }

  connect() {
    this.heardAt = performance.now();
    const socket = (this.socket = new WebSocket(this.url));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.ask();
    socket.onmessage = (message) => socket === this.socket && this.receive(message.data);
    socket.onclose = () => socket === this.socket && this.lost("the connection to the server is lost");
  }

  ask() {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) {
      this.askedAt = performance.now();
      this.socket.send(this.wantsPicture && !document.hidden ? "picture" : "status");
    }
  }

  // The next one is asked for when this one has been drawn: a slow screen gets fewer, never older ones.
  async receive(data) {
    const receivedAt = (this.heardAt = performance.now());
    const size = new DataView(data).getUint32(0);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
    const transitMs = Math.max(0, receivedAt - this.askedAt - header.waited_ms);
    let parts = null;
    if (header.has_picture) {
      const start = 8 + size;
      const length = new DataView(data).getUint32(start - 4);
      parts = { jpeg: new Uint8Array(data, start, length), levels: new Uint8Array(data, start + length) };
    }
    const socket = this.socket;
    try {
      await this.onMessage(header, parts, receivedAt, transitMs);
    } finally {
      if (socket === this.socket) this.ask();
    }
  }

  lost(reason) {
    this.socket = null;
    this.onLost(reason);
    setTimeout(() => this.reconnect(), RETRY_MS);
  }

  // A server that restarted may want the token again.
  async reconnect() {
    try {
      const answer = await fetch("/streams", { signal: AbortSignal.timeout(2000) });
      if (answer.status === 401) location.assign("/login");
      if (!answer.ok) throw new Error(answer.statusText);
      this.connect();
    } catch {
      setTimeout(() => this.reconnect(), RETRY_MS);
    }
  }

  watch() {
    if (this.socket && performance.now() - this.heardAt > SILENT_MS) {
      const socket = this.socket;
      this.lost("the server does not answer");
      socket.close();
    }
  }
}
