// The connection to the agent: follows its documents, repeats commands that a
// lost connection swallowed, and notices silence.

const protocol = 'gardu.v1';
const silence = 10_000; // ms without a frame until the agent counts as lost
const firstPause = 250; // ms until the first reconnect; doubles up to longestPause
const longestPause = 2_000;
const closedToken = 4001;
const closedFrame = 4002;
const closedOther = 4009;

/** The result of a command that the agent had not answered when it fell silent. */
export const lost = 'lost';

const newID = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');

export class Link extends EventTarget {
  #token;
  #socket = null;
  #pause = firstPause;
  #pending = new Map(); // commands without a result
  #lastFrame = performance.now();
  #lastActivity = -Infinity;
  #lost = false;
  #ended = false;
  #epoch = null;
  #seq = 0;
  #skew = null; // the agent's time minus this page's

  docs = {};

  constructor(token) {
    super();
    this.#token = token;
    setInterval(() => this.#look(), 500);
    this.#connect();
  }

  /** The agent's time in ms. */
  now() {
    return performance.now() + (this.#skew ?? 0);
  }

  /** How long the agent has been silent, in ms. */
  silentFor() {
    return performance.now() - this.#lastFrame;
  }

  /** Sends a command for what is shown and resolves with its result. */
  command(name, args) {
    const { session, screen } = this.docs.session;
    const frame = { type: 'command', id: newID(), session, screen, name };
    if (args) frame.args = args;
    return new Promise((resolve) => {
      this.#pending.set(frame.id, { frame, resolve });
      this.#send(frame);
    });
  }

  /** Says, at most once a second, that somebody touches the screen. */
  activity() {
    const now = performance.now();
    if (!this.docs.session || now - this.#lastActivity < 1000) return;
    this.#lastActivity = now;
    this.#send({ type: 'activity', session: this.docs.session.session });
  }

  /** Loads the page anew once the agent would serve it: a kiosk must never be left on a browser's error page. */
  async reload() {
    if (this.#ended) return;
    this.#ended = true;
    this.#pending.clear();
    for (;;) {
      try {
        const answer = await fetch('/', { method: 'HEAD', cache: 'no-store' });
        if (answer.ok) break;
      } catch {
        // Not there yet.
      }
      await new Promise((resolve) => setTimeout(resolve, 1000));
      this.#look();
    }
    location.replace('/');
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #connect() {
    if (this.#ended) return;
    const socket = new WebSocket(`ws://${location.host}/ws`, protocol);
    this.#socket = socket;
    socket.addEventListener('open', () => {
      const hello = { type: 'hello', token: this.#token, lang: this.docs.session?.lang ?? 'id' };
      if (this.#epoch) Object.assign(hello, { epoch: this.#epoch, since: this.#seq });
      socket.send(JSON.stringify(hello));
    });
    socket.addEventListener('message', (e) => this.#take(JSON.parse(e.data)));
    socket.addEventListener('close', (e) => this.#closed(e.code));
  }

  #closed(code) {
    if (this.#ended) return;
    if (code === closedOther) {
      this.#ended = true;
      this.dispatchEvent(new Event('other'));
      return;
    }
    if (code === closedToken || code === closedFrame) {
      this.reload();
      return;
    }
    setTimeout(() => this.#connect(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, longestPause);
  }

  #take(frame) {
    this.#lastFrame = performance.now();
    if (frame.now) this.#skew = frame.now - this.#lastFrame;
    switch (frame.type) {
      case 'snapshot':
      case 'delta': {
        const fresh = this.#pause !== firstPause;
        this.#pause = firstPause;
        this.#epoch = frame.epoch;
        this.#seq = frame.seq;
        this.docs = frame.type === 'snapshot' ? frame.state : { ...this.docs, ...frame.state };
        this.dispatchEvent(new Event('docs'));
        if (fresh && !this.#ended) for (const { frame: again } of this.#pending.values()) this.#send(again);
        break;
      }
      case 'result': {
        this.#send({ type: 'ack', id: frame.id });
        const waiting = this.#pending.get(frame.id);
        this.#pending.delete(frame.id);
        waiting?.resolve(frame);
        break;
      }
      default: // a tick, or something newer than this page
    }
    this.#look();
  }

  #look() {
    const silent = this.silentFor() > silence;
    if (silent) this.#forget();
    if (silent || silent !== this.#lost) {
      this.#lost = silent;
      this.dispatchEvent(new CustomEvent('lost', { detail: silent }));
    }
  }

  /** Drops what waits for a result. A secret among it must not stay in a page that nobody can end; and who touched may be gone. */
  #forget() {
    const waiting = [...this.#pending.values()];
    this.#pending.clear();
    for (const { resolve } of waiting) resolve({ ok: false, code: lost });
  }
}
