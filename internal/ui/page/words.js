// Looks up the agent's texts.

export class Words {
  #table;

  constructor(table) {
    this.#table = table;
    this.lang = 'id';
  }

  get brand() {
    return this.#table.brand;
  }

  has(key) {
    return key in this.#table.texts[this.lang];
  }

  /** The text of a key; words in braces are filled from params. An unknown key is shown as it is, so that nothing is silently empty. */
  t(key, params = {}) {
    const text = this.#table.texts[this.lang][key] ?? key;
    return text.replace(/\{(\w+)\}/g, (all, name) => params[name] ?? all);
  }

  /** The first of several keys that has a text. */
  first(...keys) {
    return this.t(keys.find((k) => this.has(k)) ?? keys.at(-1));
  }

  /** The label of a command's button. */
  label(session, name) {
    const state = session.overlay ? session.overlay.state : session.state;
    return this.first(`${state}.do.${name}.${session.operation}`, `${state}.do.${name}`, `do.${name}`);
  }

  operation(name) {
    return this.t(`operation.${name}`);
  }

  /** A point in time, as the kiosk's own clock would show it. */
  time(ms) {
    return new Intl.DateTimeFormat(this.lang === 'id' ? 'id-ID' : 'en-GB', { hour: '2-digit', minute: '2-digit' }).format(ms);
  }

  dateTime(ms) {
    return new Intl.DateTimeFormat(this.lang === 'id' ? 'id-ID' : 'en-GB', { dateStyle: 'long', timeStyle: 'short' }).format(ms);
  }

  list(items) {
    return new Intl.ListFormat(this.lang === 'id' ? 'id-ID' : 'en-GB').format(items);
  }
}
