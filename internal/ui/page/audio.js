// Tones, and speech through the headphone socket. Tones follow touches; speech
// starts only when the customer asks for it, and ends with the page. It never says
// what is typed where something secret is typed: those screens give it nothing to say.

const gap = 0.12; // s of silence between two clips

const signs = { '-': 'dash', _: 'underscore', '.': 'dot' };

export class Audio {
  #words;
  #context = null;
  #buffers = new Map(); // address → promise of its samples, or null where there is none
  #turn = 0; // a later saying silences an earlier one
  #playing = null;
  speaking = false;

  constructor(words) {
    this.#words = words;
  }

  /** Browsers let a page be heard only after a touch or a key; this is called on each. */
  wake() {
    if (!navigator.userActivation.hasBeenActive) return;
    this.#context ??= new AudioContext();
    if (this.#context.state === 'suspended') this.#context.resume();
  }

  /** What the sound card is doing, for the tests. */
  get state() {
    return this.#context?.state;
  }

  async #load(address) {
    if (!this.#buffers.has(address)) {
      const samples = fetch(address, { cache: 'no-store' })
        .then((answer) => (answer.ok ? answer.arrayBuffer() : Promise.reject(new Error(address))))
        .then((bytes) => this.#context.decodeAudioData(bytes))
        .catch(() => null); // the agent is gone, or restarts: there is more to see than to hear
      this.#buffers.set(address, samples);
    }
    return this.#buffers.get(address);
  }

  #start(samples) {
    const source = this.#context.createBufferSource();
    source.buffer = samples;
    source.connect(this.#context.destination);
    source.start();
    return source;
  }

  /** Plays a tone. */
  async tone(name) {
    if (!this.#context || !this.#words.sounds || !name) return;
    const samples = await this.#load(`/sounds/${name}.wav`);
    if (samples && this.#context.state === 'running') this.#start(samples);
  }

  /** Switches speech on or off. The words for a lost agent are fetched while there is one. */
  toggle() {
    this.wake();
    this.speaking = !this.speaking;
    this.hush();
    if (this.speaking) for (const key of ['AGENT_LOST.title', 'AGENT_LOST.body']) for (const address of this.#addresses({ key })) this.#load(address);
  }

  /**
   * The clips of one saying: {key, params} for a text, {spell} for every sign of what is typed, capitals
   * told apart, {number} for the letters and digits of a number that staff ask for, {time} for the time of day.
   */
  #addresses({ key, params = {}, spell, number, time }) {
    const base = `/speech/${this.#words.lang}`;
    const letters = (text) => [...text.toLowerCase()].filter((c) => /[a-z0-9]/.test(c)).map((c) => `${base}/letter/${c}`);
    if (spell !== undefined) return [...spell].flatMap((c) => (signs[c] ? [`${base}/letter/${signs[c]}`] : [/[A-Z]/.test(c) && `${base}/letter/capital`, ...letters(c)].filter(Boolean)));
    if (number !== undefined) return letters(number);
    if (time !== undefined) return [time.getHours(), time.getMinutes()].map((n) => `${base}/number/${n}`);
    return this.#words.pieces(key).flatMap(({ part, silent, name }) => {
      if (name === undefined) return silent ? [] : [`${base}/${key}/${part}`];
      const value = params[name];
      if (Array.isArray(value)) return value.flatMap((k) => this.#addresses({ key: k }));
      if (/^\d+$/.test(value) && Number(value) <= 60 && String(Number(value)) === String(value)) return [`${base}/number/${value}`];
      return value === undefined ? [] : letters(String(value));
    });
  }

  hush() {
    this.#turn += 1;
    this.#playing?.stop();
    this.#playing = null;
  }

  /** Says things one after the other, in place of what is being said. */
  async say(...what) {
    if (!this.speaking || !this.#context) return;
    this.hush();
    const turn = this.#turn;
    const addresses = what.filter(Boolean).flatMap((w) => this.#addresses(w));
    for (const address of addresses) this.#load(address);
    for (const address of addresses) {
      const samples = await this.#load(address);
      if (turn !== this.#turn) return;
      if (!samples) continue;
      this.#playing = this.#start(samples);
      await new Promise((resolve) => setTimeout(resolve, (samples.duration + gap) * 1000));
      if (turn !== this.#turn) return;
    }
  }
}
