import type { Message } from "./model";

export type Link =
  | { state: "connecting"; attempt: number }
  | { state: "live" }
  | { state: "lost"; retryAt: number; attempt: number };

interface Handlers {
  message(m: Message): void;
  link(l: Link): void;
}

/** The server sends a summary each second; a line that is silent this long is dead. */
const silenceMs = 8_000;
const firstDelayMs = 500;
const lastDelayMs = 15_000;

/** Connection keeps a stream open: it reconnects with growing, jittered delays and goes on where it was. */
export class Connection {
  private socket: WebSocket | undefined;
  private channels: string[] = [];
  private versions = new Map<string, number>();
  private instance = "";
  private attempt = 0;
  private retry: number | undefined;
  private watchdog: number | undefined;

  constructor(
    private readonly url: string,
    private readonly on: Handlers,
  ) {}

  /** Replaces what is subscribed. */
  subscribe(channels: string[]) {
    this.channels = channels;
    for (const known of [...this.versions.keys()]) if (!channels.includes(known)) this.versions.delete(known);
    if (this.socket?.readyState === WebSocket.OPEN) this.ask(false);
  }

  open() {
    window.clearTimeout(this.retry);
    this.retry = undefined;
    this.drop();
    this.on.link({ state: "connecting", attempt: this.attempt });
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.watch();
    socket.onopen = () => this.ask(true);
    socket.onmessage = (e) => {
      this.watch();
      if (typeof e.data === "string") this.take(JSON.parse(e.data) as Message);
    };
    socket.onclose = () => {
      if (this.socket === socket) this.later();
    };
  }

  close() {
    window.clearTimeout(this.retry);
    this.drop();
  }

  private drop() {
    window.clearTimeout(this.watchdog);
    const old = this.socket;
    this.socket = undefined;
    old?.close();
  }

  private later() {
    this.drop();
    const ceiling = Math.min(lastDelayMs, firstDelayMs * 2 ** this.attempt);
    const delay = ceiling * (0.5 + Math.random() / 2);
    this.attempt++;
    this.on.link({ state: "lost", retryAt: Date.now() + delay, attempt: this.attempt });
    this.retry = window.setTimeout(() => this.open(), delay);
  }

  private watch() {
    window.clearTimeout(this.watchdog);
    this.watchdog = window.setTimeout(() => this.later(), silenceMs);
  }

  private ask(resume: boolean) {
    const request: Record<string, unknown> = { type: "subscribe", channels: this.channels };
    const versions = this.channels.filter((c) => !c.startsWith("live:")).map((c) => this.versions.get(c) ?? 0); // live values have none
    if (resume && this.instance && versions.length > 0 && Math.min(...versions) > 0) {
      request["resume"] = { instance: this.instance, version: Math.min(...versions) };
    }
    this.socket?.send(JSON.stringify(request));
  }

  private take(m: Message) {
    switch (m.type) {
      case "hello":
        // Another instance counts its versions anew. It refuses the resume that was just sent and starts over by itself.
        if (m.instance !== this.instance) this.versions.clear();
        this.instance = m.instance;
        this.attempt = 0;
        this.on.link({ state: "live" });
        break;
      case "fleet":
      case "alerts":
        if (!m.more) this.versions.set(m.type, m.version);
        break;
      case "machine":
        if (!m.more) this.versions.set(`machine:${m.id}`, m.version);
        break;
    }
    this.on.message(m);
  }
}
