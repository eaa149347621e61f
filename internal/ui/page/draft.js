// What is being typed on one screen and has not been sent. It lives only here.
// Secrets are dropped whenever the screen changes and when the question "are you
// still there?" opens; everything is when the agent falls silent, for nobody can
// end the session then.

export class Draft {
  constructor(session) {
    this.screen = session.screen;
    this.secret = '';
    this.values = {};
    this.active = 0;
    this.wrong = null; // {field, rule}
    for (const f of session.fields ?? []) this.values[f.name] = f.value ?? '';
    if (session.wrong) {
      this.wrong = session.wrong;
      this.active = Math.max(0, (session.fields ?? []).findIndex((f) => f.name === session.wrong.field));
    }
  }

  /** Drops the secret. */
  forget() {
    this.secret = '';
  }

  /** Drops everything that was typed. */
  empty() {
    this.secret = '';
    this.wrong = null;
    this.active = 0;
    for (const name of Object.keys(this.values)) this.values[name] = '';
  }

  /** What a redraw depends on: how much of the secret was typed, not what. */
  toJSON() {
    return { ...this, secret: this.secret.length };
  }
}

/** Applies a key to a value within a field's bounds. */
export function typed(value, key, field) {
  if (key === 'delete') return value.slice(0, -1);
  if (key === 'clear') return '';
  if (value.length >= field.max) return value;
  if (field.digits ? !/^[0-9]$/.test(key) : !/^[A-Za-z0-9_.-]$/.test(key)) return value;
  return value + key;
}
