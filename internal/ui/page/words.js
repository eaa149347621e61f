// Looks up the agent's texts.

const braces = /\{(\w+)\}/g;

export class Words {
  #table;

  constructor(table) {
    this.#table = table;
    this.lang = 'id';
  }

  get brand() {
    return this.#table.brand;
  }

  /** Whether the bank has a picture of its own at /logo. */
  get logo() {
    return this.#table.logo;
  }

  /** The tone that a screen opens with, or nothing. */
  sound(state) {
    return this.#table.sounds ? this.#table.screens.find((row) => row.state === state)?.sound : undefined;
  }

  get sounds() {
    return this.#table.sounds;
  }

  has(key) {
    return key in this.#table.texts[this.lang];
  }

  /** The text of a key; words in braces are filled from params. An unknown key is shown as it is, so that nothing is silently empty. */
  t(key, params = {}) {
    const text = this.#table.texts[this.lang][key] ?? key;
    return text.replace(braces, (all, name) => params[name] ?? all);
  }

  /** The text of a key in pieces: its own words by their number, and the names of what is filled in between them. */
  pieces(key) {
    return (this.#table.texts[this.lang][key] ?? '').split(braces).map((text, i) => (i % 2 === 1 ? { name: text } : { part: i / 2, silent: !/\p{L}/u.test(text) }));
  }

  /** The first of several keys that has a text. */
  firstKey(...keys) {
    return keys.find((k) => this.has(k)) ?? keys.at(-1);
  }

  /** The key of the label of a command's button. */
  labelKey(session, name) {
    return this.firstKey(`${session.state}.do.${name}.${session.operation}`, `${session.state}.do.${name}`, `do.${name}`);
  }

  operation(name) {
    return this.t(`operation.${name}`);
  }

  get #locale() {
    return this.lang === 'id' ? 'id-ID' : 'en-GB';
  }

  /** A point in time, as the kiosk's own clock would show it. */
  time(ms) {
    return new Intl.DateTimeFormat(this.#locale, { hour: '2-digit', minute: '2-digit' }).format(ms);
  }

  dateTime(ms) {
    return new Intl.DateTimeFormat(this.#locale, { dateStyle: 'long', timeStyle: 'short' }).format(ms);
  }

  list(items) {
    return new Intl.ListFormat(this.#locale).format(items);
  }
}
