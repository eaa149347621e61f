// The small parts that screens are made of.

import { h, s } from './dom.js';

const strokes = {
  queued: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M12 7v5l3.5 2'],
  doubt: ['M12 2.5 21.5 12 12 21.5 2.5 12z', 'M9.6 9.6a2.4 2.4 0 1 1 3.4 2.2c-.7.3-1 .8-1 1.5', 'M12 16.2v.1'],
  waiting: ['M6 3h12M6 21h12', 'M7 3c0 5 10 5 10 9s-10 4-10 9', 'M17 3c0 5-10 5-10 9s10 4 10 9'],
  done: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M7.8 12.4l2.9 2.9 5.5-6'],
  failed: ['M8.3 3h7.4L21 8.3v7.4L15.7 21H8.3L3 15.7V8.3z', 'M9 9l6 6M15 9l-6 6'],
  nothing: ['M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z', 'M8 12h8'],
  halted: ['M4 4h16v12H4z', 'M9 20h6M12 16v4', 'M9.5 7.5l5 5M14.5 7.5l-5 5'],
  working: ['M12 3a9 9 0 1 1-9 9'],
  hand: ['M9 11V5.5a1.5 1.5 0 0 1 3 0V10', 'M12 10V8.5a1.5 1.5 0 0 1 3 0V11', 'M15 10.5a1.5 1.5 0 0 1 3 0V15c0 3.5-2 6-5.5 6-3 0-4.3-1.5-5.5-3.5L5 14.3a1.6 1.6 0 0 1 2.7-1.6L9 14V11'],
  pin: ['M5 10h14v10H5z', 'M8 10V7a4 4 0 0 1 8 0v3', 'M12 14v2.5'],
  bind: ['M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.7l-1 1', 'M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.7l1-1'],
  unbind: ['M8.5 15.5l-1 1', 'M14 5.3l1-1A4 4 0 0 1 20.7 10l-2 2', 'M10 18.7l-1 1A4 4 0 0 1 3.3 14l2-2', 'M4 4l16 16'],
  phone: ['M7 3h10v18H7z', 'M11 18h2'],
  back: ['M21 5H9l-6 7 6 7h12z', 'M12 9.5l5 5M17 9.5l-5 5'],
  card: ['M3 6h18v12H3z', 'M3 10h18', 'M6.5 14.5h4'],
};

/** A drawn sign. It says nothing that words beside it do not say. */
export const icon = (name, cls = '') =>
  s('svg', { class: `icon ${cls}`, viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' }, (strokes[name] ?? []).map((d) => s('path', { d })));

export const operationIcon = { 'finpay.reset_pin': 'pin', 'finpay.bind': 'bind', 'finpay.unbind': 'unbind', 'netzme.forgot_pin': 'phone', 'prepaid.reset_pin': 'card' };

/** A button. */
export const button = (text, cls, onclick, more = {}) => h('button', { type: 'button', class: cls, onclick, ...more }, text);

/** A QR code as the agent drew it, with the four modules of white that readers need. */
export function qrCode(code, label) {
  const side = code.size + 8;
  return s(
    'svg',
    { class: 'qr', viewBox: `-4 -4 ${side} ${side}`, role: 'img', 'aria-label': label, 'shape-rendering': 'crispEdges' },
    s('rect', { x: -4, y: -4, width: side, height: side, class: 'qr-paper' }),
    s('path', { d: code.path, class: 'qr-ink' }),
  );
}

/** Counts down to a time of the agent. `over` replaces the words when it is reached. */
export class Countdown extends HTMLElement {
  #timer = 0;

  set(link, until, before, over) {
    Object.assign(this, { link, until, before, over });
    return this;
  }

  connectedCallback() {
    this.setAttribute('role', 'timer');
    this.#show();
    this.#timer = setInterval(() => this.#show(), 250);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  #show() {
    const left = Math.max(0, Math.ceil((this.until - this.link.now()) / 1000));
    if (left === this.left) return;
    this.left = left;
    const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, '0')}`;
    if (left === 0 && this.over) this.replaceChildren(this.over);
    else this.replaceChildren(h('span', { class: 'count-words' }, this.before, ' '), h('span', { class: 'count' }, clock));
  }
}

customElements.define('gardu-countdown', Countdown);

export const countdown = (link, until, before, over) => document.createElement('gardu-countdown').set(link, until, before, over);

const rows = {
  digits: ['123', '456', '789'],
  letters: ['1234567890', 'qwertyuiop', 'asdfghjkl', 'zxcvbnm'],
};

/** The keypad: always in the same order, so that fingers and blind users can learn it. */
export class Keypad extends HTMLElement {
  set(words, kind, quiet, press) {
    Object.assign(this, { words, kind, quiet, press, capitals: kind === 'letters' });
    return this;
  }

  connectedCallback() {
    this.className = `keypad ${this.kind}${this.quiet ? ' quiet' : ''}`;
    this.setAttribute('role', 'group');
    this.#draw();
  }

  #draw() {
    const { words } = this;
    const key = (c) => button(c, 'key', () => this.press(c), { 'data-focus': `key-${c.toLowerCase()}` });
    const act = (what) => button(what === 'delete' ? icon('back') : words.t(`key.${what}`), 'key fn', () => this.press(what), { 'data-focus': `key-${what}`, 'aria-label': words.t(`key.${what}`) });
    if (this.kind === 'digits') {
      this.replaceChildren(...rows.digits.flatMap((r) => [...r].map(key)), act('clear'), key('0'), act('delete'));
      return;
    }
    const line = (cs, ...more) => h('div', { class: 'key-row' }, [...cs].map((c) => key(this.capitals ? c.toUpperCase() : c)), more);
    const shift = button(words.t('key.shift'), 'key fn', () => {
      this.capitals = !this.capitals;
      this.#draw();
      this.querySelector('[data-focus="key-shift"]')?.focus();
    }, { 'aria-pressed': String(this.capitals), 'data-focus': 'key-shift' });
    this.replaceChildren(
      line(rows.letters[0]),
      line(rows.letters[1]),
      line(rows.letters[2], key('-')),
      line(rows.letters[3], key('_'), key('.')),
      h('div', { class: 'key-row wide' }, shift, act('clear'), act('delete')),
    );
  }
}

customElements.define('gardu-keypad', Keypad);

export const keypad = (words, kind, quiet, press) => document.createElement('gardu-keypad').set(words, kind, quiet, press);
