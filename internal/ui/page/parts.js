// The small parts that screens are made of.

import { h, s } from './dom.js';
import { strokes } from './icons.js';

/** A drawn sign. It says nothing that words beside it do not say. */
export const icon = (name, cls = '') =>
  s('svg', { class: `icon ${cls}`, viewBox: '0 0 24 24', 'aria-hidden': 'true', focusable: 'false' }, (strokes[name] ?? []).map((d) => s('path', { d })));

export const operationIcon = { 'finpay.reset_pin': 'pin', 'finpay.bind': 'bind', 'finpay.unbind': 'unbind', 'netzme.forgot_pin': 'phone', 'prepaid.reset_pin': 'card' };

/** A button. more: icon (a sign's name), say (the key of the text that is its name), and attributes. */
export const button = (text, cls, onclick, { icon: sign, say, ...more } = {}) =>
  h('button', { type: 'button', class: cls, onclick, 'data-say': say, ...more }, sign && icon(sign), sign ? h('span', {}, text) : text);

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

/** Seconds as m:ss, and from an hour on as h:mm:ss: "95:00" reads as a time of day. */
export function clockOf(left) {
  const two = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(left / 3600);
  const minutes = Math.floor(left / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(left % 60)}` : `${minutes}:${two(left % 60)}`;
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
    const clock = clockOf(left);
    if (left === 0 && this.over) this.replaceChildren(this.over);
    else this.replaceChildren(this.before && h('span', { class: 'count-words' }, this.before, ' '), h('span', { class: 'count' }, clock));
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
    this.setAttribute('aria-label', this.words.t(`key.pad.${this.kind}`));
    this.#draw();
  }

  #draw() {
    const { words } = this;
    // The keys of a quiet pad have no spoken name: nobody near may hear which one is touched.
    const key = (c) => button(c, 'key', () => this.press(c), { 'data-focus': `key-${c.toLowerCase()}`, 'data-char': this.quiet ? undefined : c.toLowerCase() });
    const act = (what) => h('button', { type: 'button', class: 'key fn', onclick: () => this.press(what), 'data-focus': `key-${what}`, 'data-say': `key.${what}`, 'aria-label': words.t(`key.${what}`) }, what === 'delete' ? icon('delete') : words.t(`key.${what}`));
    if (this.kind === 'digits') {
      this.replaceChildren(...rows.digits.flatMap((r) => [...r].map(key)), act('clear'), key('0'), act('delete'));
      return;
    }
    const line = (cs, ...more) => h('div', { class: 'key-row' }, [...cs].map((c) => key(this.capitals ? c.toUpperCase() : c)), more);
    const shift = button(words.t('key.shift'), 'key fn', () => {
      this.capitals = !this.capitals;
      this.#draw();
      this.querySelector('[data-focus="key-shift"]')?.focus();
    }, { 'aria-pressed': String(this.capitals), 'data-focus': 'key-shift', say: 'key.shift' });
    this.replaceChildren(
      line(rows.letters[0]),
      line(rows.letters[1]),
      line(rows.letters[2], key('-')),
      line(rows.letters[3], key('_'), key('.'), act('delete')),
      h('div', { class: 'key-row wide' }, shift, act('clear')),
    );
  }
}

customElements.define('gardu-keypad', Keypad);

export const keypad = (words, kind, quiet, press) => document.createElement('gardu-keypad').set(words, kind, quiet, press);
