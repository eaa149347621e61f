// The page: shows what the agent says, sends what the customer does.

import { h } from './dom.js';
import { Words } from './words.js';
import { Link } from './link.js';
import { Draft } from './draft.js';
import { button, countdown, icon } from './parts.js';
import { footerCommands, view } from './screens.js';

const staffAfter = 60_000; // ms of silence after which the page sends for staff

class App extends HTMLElement {
  #link;
  #drawn = '';
  #gone = false; // the session ended; nothing is drawn until the page is new
  #other = false;
  #lost = false;
  #staff = false;
  #head;
  #banner;
  #main;
  #foot;
  #over;
  #live;
  #spoken = '';

  docs = {};
  draft = null;
  message = null;
  onKey = null;
  kept = new Map(); // controls that outlive a redraw, see keep in screens.js

  connectedCallback() {
    document.addEventListener('contextmenu', (e) => e.preventDefault());
    document.addEventListener('dragstart', (e) => e.preventDefault());
    this.#start();
  }

  get link() {
    return this.#link;
  }

  async #start() {
    const token = document.querySelector('meta[name="gardu-page"]').content;
    const answer = await fetch('/screens.json', { cache: 'no-store' });
    this.words = new Words(await answer.json());
    this.#head = h('header', { class: 'head' });
    this.#banner = h('div', { class: 'banner', role: 'status', hidden: true });
    this.#main = h('main', {});
    this.#foot = h('footer', { class: 'foot' });
    this.#over = h('div', { class: 'overlay', hidden: true });
    this.#live = h('div', { class: 'unseen', 'aria-live': 'polite' });
    this.replaceChildren(this.#head, this.#banner, this.#main, this.#foot, this.#over, this.#live);
    this.#link = new Link(token);
    this.#link.addEventListener('docs', () => this.#take());
    this.#link.addEventListener('lost', (e) => this.#silent(e.detail));
    this.#link.addEventListener('other', () => this.#elsewhere());
    document.addEventListener('pointerdown', () => this.#link.activity(), { passive: true });
    document.addEventListener('keydown', (e) => this.#key(e));
  }

  /** New documents. */
  #take() {
    const { session } = this.#link.docs;
    if (this.#gone || !session) return;
    if (this.docs.session && this.docs.session.session !== session.session) {
      // The session was wiped: show nothing of it and start as a new page.
      this.#gone = true;
      this.draft?.forget();
      this.docs = { session: { lang: 'id' } };
      this.words.lang = 'id';
      this.replaceChildren(this.#over); // where the agent is gone at this very moment, it says so
      this.#link.reload();
      return;
    }
    if (session.screen !== this.docs.session?.screen) {
      this.message = null;
      const before = session.state === this.docs.session?.state ? this.draft : null;
      this.draft?.forget();
      this.draft = new Draft(session);
      // Where only the question came or went over the same screen, what was typed (and is no secret) stays.
      if (before) Object.assign(this.draft, { values: before.values, active: before.active });
    }
    this.docs = this.#link.docs;
    this.words.lang = session.lang;
    document.documentElement.lang = session.lang;
    this.redraw();
  }

  /** Sends a command and shows what the agent objects to. */
  async run(name, args) {
    if (this.#lost || this.#gone) return;
    const { screen } = this.docs.session;
    this.message = null;
    const result = await this.#link.command(name, args);
    if (result.ok || this.docs.session.screen !== screen) return;
    if (result.code === 'field') {
      this.draft.wrong = { field: result.field, rule: result.rule };
      const at = (this.docs.session.fields ?? []).findIndex((f) => f.name === result.field);
      if (at >= 0) this.draft.active = at;
    } else if (this.words.has(`refused.${result.code}`)) {
      this.message = this.words.t(`refused.${result.code}`);
    }
    this.redraw();
  }

  redraw() {
    const { session, request, cooldown, health, network } = this.docs;
    if (this.#gone) this.#drawOverlay();
    if (!session || this.#gone) return;
    const now = JSON.stringify([session, request, cooldown, health, this.draft, this.message]);
    if (now !== this.#drawn) {
      this.#drawn = now;
      this.#draw();
    }
    this.#drawBanner(network);
    this.#drawOverlay();
  }

  #draw() {
    const { session } = this.docs;
    const { words } = this;
    const fresh = this.#main.dataset.screen !== session.screen;
    const focus = document.activeElement?.dataset?.focus;
    const step = session.steps && h('span', { class: 'steps' }, words.t('show.steps', session.steps));
    if (fresh) this.kept.clear();
    this.#head.replaceChildren(icon('card', 'logo'), h('span', { class: 'brand' }, words.brand), step ?? '');
    this.onKey = null;
    const { say, act, shape } = view(this);
    this.#main.className = `tone-${session.tone} ${shape ?? ''}`;
    this.#main.dataset.state = session.state;
    this.#main.dataset.screen = session.screen;
    this.#main.setAttribute('aria-busy', String(Boolean(session.busy)));
    const full = (parts) => parts.flat(Infinity).filter(Boolean);
    if (fresh) this.#main.replaceChildren(h('section', { class: 'say' }), h('section', { class: 'act' }));
    this.#main.querySelector('.say').replaceChildren(...full(say));
    replaceChanged(this.#main.querySelector('.act'), full(act));
    const foot = session.commands.filter((c) => footerCommands.includes(c)).map((c) => button(words.label(session, c), 'quiet', () => this.run(c), { 'data-focus': `do-${c}` }));
    const other = session.lang === 'id' ? 'en' : 'id';
    this.#foot.replaceChildren(
      button(words.t('do.lang'), 'quiet lang', () => this.run('lang', { lang: other }), { 'data-focus': 'do-lang', lang: other }),
      h('span', { class: 'gap' }),
      ...(session.overlay ? [] : foot),
    );
    // A new screen is announced by its title; a redrawn one keeps the focus where it was.
    const target = fresh ? 'title' : focus;
    if (target) this.querySelector(`[data-focus="${CSS.escape(target)}"]`)?.focus({ preventScroll: true });
    const spoken = [session.title, ...session.lines].map((k) => words.t(k, session.params)).join(' ');
    if (spoken !== this.#spoken) {
      this.#spoken = spoken;
      this.#live.textContent = spoken;
    }
  }

  #drawBanner(network) {
    const { words } = this;
    this.#banner.hidden = !network?.offline;
    if (!network?.offline) {
      this.#banner.replaceChildren();
      return;
    }
    const names = (key, ops) => (ops.length ? ` ${words.t(key, { list: words.list(ops.map((o) => words.operation(o))) })}` : '');
    const idle = ['ATTRACT', 'HOME'].includes(this.docs.session.state);
    const text = words.t('OFFLINE.title') + (idle ? names('OFFLINE.works', network.works) + names('OFFLINE.waits', network.waits) + names('OFFLINE.stops', network.stops) : '');
    if (this.#banner.textContent !== text) this.#banner.replaceChildren(h('span', {}, text));
  }

  #drawOverlay() {
    const { words } = this;
    const { session, request } = this.docs;
    const what = this.#other ? 'OTHER_SCREEN' : this.#lost ? `AGENT_LOST${this.#staff ? '.staff' : ''}` : session.overlay ? session.overlay.state : '';
    const key = what && `${what} ${session.lang}`;
    if (this.#over.dataset.what === key) return;
    this.#over.dataset.what = key;
    this.#over.hidden = !what;
    for (const part of [this.#main, this.#banner, this.#foot]) part.inert = Boolean(what) && (part !== this.#foot || what !== 'STILL_THERE');
    if (!what) {
      this.#over.replaceChildren();
      this.#over.removeAttribute('role');
      return;
    }
    const name = what.split('.')[0];
    this.#over.setAttribute('role', 'alertdialog');
    this.#over.setAttribute('aria-modal', 'true');
    this.#over.setAttribute('aria-labelledby', 'over-title');
    this.#over.className = `overlay ${name.toLowerCase().replace('_', '-')}`;
    const box = [h('h1', { id: 'over-title', tabindex: '-1' }, words.t(`${name}.title`)), h('p', {}, words.t(`${name}.body`))];
    if (request && words.has(`${name}.request`)) box.push(h('p', {}, words.t(`${name}.request`)));
    if (this.#staff && name === 'AGENT_LOST') box.push(h('p', { class: 'notice' }, words.t('AGENT_LOST.staff')));
    if (name === 'STILL_THERE') {
      box.push(countdown(this.#link, session.overlay.until, '', ''));
      box.push(h('div', { class: 'buttons' }, button(words.t('do.stay'), 'main', () => this.run('stay'), { 'data-focus': 'do-stay' }), button(words.t('do.leave'), 'side', () => this.run('stop'), { 'data-focus': 'do-leave' })));
    } else if (name === 'OTHER_SCREEN') {
      box.push(h('div', { class: 'buttons' }, button(words.t('do.reload'), 'main', () => location.replace('/'))));
    } else {
      box.push(icon('working', 'sign spin'));
    }
    this.#over.replaceChildren(h('div', { class: 'overlay-box' }, box));
    (this.#over.querySelector('button.main') ?? this.#over.querySelector('h1')).focus({ preventScroll: true });
  }

  /** The agent fell silent, or is back. */
  #silent(lost) {
    if (!this.docs.session) return;
    const staff = this.#link.silentFor() > staffAfter;
    if (lost === this.#lost && staff === this.#staff) return;
    this.#lost = lost;
    this.#staff = lost && staff;
    if (lost) this.draft?.forget();
    this.redraw();
  }

  #elsewhere() {
    this.#other = true;
    this.draft?.forget();
    if (this.docs.session) this.redraw();
  }

  /** A keyboard types where the keypad would. Enter on a button is the button's own. */
  #key(e) {
    this.#link.activity();
    if (!this.onKey || this.#lost || this.#over.hidden === false || e.ctrlKey || e.altKey || e.metaKey) return;
    if (/^[A-Za-z0-9_.-]$/.test(e.key)) this.onKey(e.key);
    else if (e.key === 'Backspace') this.onKey('delete');
    else if (e.key === 'Enter' && !(document.activeElement instanceof HTMLButtonElement && !document.activeElement.dataset.field)) this.onKey('enter');
    else return;
    e.preventDefault();
  }
}

/** Puts nodes into a parent without touching those that are already in their place. */
function replaceChanged(parent, nodes) {
  nodes.forEach((node, i) => {
    const had = parent.childNodes[i];
    if (had === node) return;
    if (had) parent.replaceChild(node, had);
    else parent.append(node);
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}

customElements.define('gardu-app', App);
