// The page: shows what the agent says, sends what the customer does.

import { h } from './dom.js';
import { Words } from './words.js';
import { Link, lost } from './link.js';
import { Draft } from './draft.js';
import { Audio } from './audio.js';
import { contrast, reach, resetPrefs } from './prefs.js';
import { button, countdown, icon } from './parts.js';
import { cornerTap } from './corner.js';
import { footerCommands, view } from './screens.js';

const staffAfter = 60_000; // ms of silence after which the page sends for staff
const forgetAfter = 60_000; // ms without a touch after which the welcome screen looks as at first
const smallest = 0.72; // of the usual size of letters: what does not fit then is a fault

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
  #stage;
  #act;
  #foot;
  #over;
  #live;
  #spoken = '';
  #redrawing = false; // the focus that a redraw puts back is not named again
  #touched = performance.now();

  docs = {};
  draft = null;
  message = null; // key of what the agent objects to
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
    this.audio = new Audio(this.words);
    this.#head = h('header', { class: 'head' });
    this.#banner = h('div', { class: 'banner', role: 'status', hidden: true });
    this.#stage = h('section', { class: 'stage' });
    this.#act = h('section', { class: 'act' });
    this.#main = h('main', {}, this.#stage, this.#act);
    this.#foot = h('footer', { class: 'foot' });
    this.#over = h('div', { class: 'overlay', hidden: true });
    this.#live = h('div', { class: 'unseen', 'aria-live': 'polite' });
    this.replaceChildren(this.#head, this.#banner, this.#main, this.#foot, this.#over, this.#live);
    this.#link = new Link(token);
    this.#link.addEventListener('docs', () => this.#take());
    this.#link.addEventListener('lost', (e) => this.#silent(e.detail));
    this.#link.addEventListener('other', () => this.#elsewhere());
    document.addEventListener('pointerdown', (e) => this.#touch(e), { passive: true });
    document.addEventListener('pointerup', () => this.audio.wake(), { passive: true });
    document.addEventListener('keydown', (e) => this.#key(e));
    document.addEventListener('focusin', (e) => this.#focused(e.target));
    document.fonts.addEventListener('loadingdone', () => this.#fit());
    addEventListener('resize', () => this.#fit());
    setInterval(() => this.#forget(), 1000);
  }

  /** New documents. */
  #take() {
    const { session } = this.#link.docs;
    if (this.#gone || !session) return;
    const before = this.docs.session;
    if (before && before.session !== session.session) {
      // The session was wiped: show nothing of it and start as a new page.
      this.#gone = true;
      this.draft?.empty();
      this.audio.hush();
      this.docs = { session: { lang: 'id' } };
      this.words.lang = 'id';
      this.kept.clear();
      this.replaceChildren(this.#over); // where the agent is gone at this very moment, it says so
      this.#link.reload();
      return;
    }
    if (session.screen !== before?.screen) {
      this.message = null;
      const typedSoFar = session.state === before?.state ? this.draft : null;
      this.draft?.forget();
      this.draft = new Draft(session);
      // Where only the question came or went over the same screen, what was typed (and is no secret) stays.
      if (typedSoFar) Object.assign(this.draft, { values: typedSoFar.values, active: typedSoFar.active });
      if (before && session.overlay) this.audio.tone('attention');
      else if (before && session.state !== before.state) this.audio.tone(this.words.sound(session.state));
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
    if (result.ok || result.code === lost || this.docs.session.screen !== screen) return;
    if (result.code === 'field') {
      this.draft.wrong = { field: result.field, rule: result.rule };
      const at = (this.docs.session.fields ?? []).findIndex((f) => f.name === result.field);
      if (at >= 0) this.draft.active = at;
      this.audio.tone('attention');
    } else if (this.words.has(`refused.${result.code}`)) {
      this.message = `refused.${result.code}`;
    }
    this.redraw();
    this.#announce(view(this).say);
  }

  redraw() {
    const { session, request, cooldown, health, network, operator } = this.docs;
    if (this.#gone) this.#drawOverlay();
    if (!session || this.#gone) return;
    const offers = session.state === 'ATTRACT' && network;
    const now = JSON.stringify([session, request, cooldown, health, operator, offers, this.draft, this.message, contrast.on, reach.on, this.audio.speaking]);
    if (now !== this.#drawn) {
      this.#drawn = now;
      this.#draw();
    }
    this.#drawBanner(network);
    this.#drawOverlay();
    this.#fit();
  }

  #draw() {
    const { session } = this.docs;
    const { words } = this;
    const fresh = this.#main.dataset.screen !== session.screen;
    const focus = document.activeElement?.dataset?.focus;
    if (fresh) this.kept.clear();
    this.#drawHead(session);
    this.onKey = null;
    const { stage, act, shape, say } = view(this);
    this.#main.className = `tone-${session.tone} ${shape ?? ''}`;
    if (fresh && this.#main.dataset.state !== session.state) this.#main.classList.add('fresh');
    this.#main.dataset.state = session.state;
    this.#main.dataset.screen = session.screen;
    this.#main.setAttribute('aria-busy', String(Boolean(session.busy)));
    const full = (parts) => parts.flat(Infinity).filter(Boolean);
    if (fresh) this.#act.replaceChildren();
    this.#stage.replaceChildren(...full(stage));
    replaceChanged(this.#act, full(act));
    this.#drawFoot(session);
    // A new screen is announced by its title; a redrawn one keeps the focus where it was.
    const target = fresh ? 'title' : focus;
    this.#redrawing = true;
    if (target) this.querySelector(`[data-focus="${CSS.escape(target)}"]`)?.focus({ preventScroll: true });
    this.#redrawing = false;
    const spoken = [session.title, ...session.lines, session.notice].filter(Boolean).map((k) => words.t(k, session.params)).join(' ');
    const heard = `${session.lang} ${spoken}`;
    if (heard !== this.#spoken) {
      this.#spoken = heard;
      this.#live.textContent = spoken;
      this.#announce(say);
    }
  }

  #drawHead(session) {
    const { words } = this;
    const logo = words.logo ? h('span', { class: 'plate' }, h('img', { src: '/logo', alt: '' })) : h('span', { class: 'plate' }, h('img', { src: '/icon.svg', alt: '' }));
    const { at, of } = session.steps ?? {};
    const pips = session.steps && h('span', { class: 'pips', 'aria-hidden': 'true' }, Array.from({ length: of }, (_, i) => h('span', { class: i < at ? 'pip past' : 'pip' })));
    const step = session.steps && h('div', { class: 'steps' }, h('span', {}, words.t('show.steps', session.steps)), pips);
    const key = JSON.stringify([session.steps, session.lang]);
    if (this.#head.dataset.key === key) return;
    this.#head.dataset.key = key;
    this.#head.replaceChildren(...[logo, h('span', { class: 'brand' }, words.brand), step].filter(Boolean));
  }

  #drawFoot(session) {
    const { words } = this;
    const tool = (name, say, run, more) => button(words.t(say), 'tool', run, { 'data-focus': `do-${name}`, say, icon: name, ...more });
    const toggle = (name, pref) => tool(name, `do.${name}`, () => { pref.on = !pref.on; this.redraw(); }, { 'aria-pressed': String(pref.on) });
    const other = session.lang === 'id' ? 'en' : 'id';
    const commands = session.overlay ? [] : session.commands.filter((c) => c in footerCommands);
    const command = (c) => {
      const say = words.labelKey(session, c);
      return button(words.t(say), 'way', () => this.run(c), { 'data-focus': `do-${c}`, say, icon: footerCommands[c] });
    };
    const key = JSON.stringify([session.lang, session.screen, commands, contrast.on, reach.on, this.audio.speaking]);
    if (this.#foot.dataset.key === key) return;
    this.#foot.dataset.key = key;
    this.#foot.replaceChildren(
      h('div', { class: 'tools', role: 'group', 'aria-label': words.t('show.tools') },
        tool('lang', 'do.lang', () => this.run('lang', { lang: other }), { lang: other }),
        toggle('contrast', contrast),
        toggle('reach', reach),
        tool('speech', 'do.speech', () => this.#speech(), { 'aria-pressed': String(this.audio.speaking) }),
      ),
      h('span', { class: 'gap' }),
      h('div', { class: 'ways' }, commands.map(command)),
    );
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
    const more = idle ? names('OFFLINE.works', network.works) + names('OFFLINE.waits', network.waits) + names('OFFLINE.stops', network.stops) : '';
    const text = words.t('OFFLINE.title') + more;
    if (this.#banner.textContent !== text) this.#banner.replaceChildren(icon('offline'), h('span', {}, h('strong', {}, words.t('OFFLINE.title')), more));
  }

  #drawOverlay() {
    const { words } = this;
    const { session, request } = this.docs;
    const what = this.#other ? 'OTHER_SCREEN' : this.#lost ? `AGENT_LOST${this.#staff ? '.staff' : ''}` : session.overlay ? session.overlay.state : '';
    const key = what && `${what} ${session.lang}`;
    const before = this.#over.dataset.what;
    if (before === key) return;
    this.#over.dataset.what = key;
    this.#over.hidden = !what;
    for (const part of [this.#main, this.#banner, this.#foot]) part.inert = Boolean(what) && (part !== this.#foot || what !== 'STILL_THERE');
    if (!what) {
      this.#over.replaceChildren();
      this.#over.removeAttribute('role');
      if (before && !this.#gone) this.#announce(view(this).say); // who listens is told what is below again
      return;
    }
    const name = what.split('.')[0];
    const said = [`${name}.title`, `${name}.body`, request && words.has(`${name}.request`) && `${name}.request`].filter(Boolean);
    this.#over.setAttribute('role', 'alertdialog');
    this.#over.setAttribute('aria-modal', 'true');
    this.#over.setAttribute('aria-labelledby', 'over-title');
    this.#over.className = `overlay ${name.toLowerCase().replace('_', '-')}`;
    const box = [h('h1', { id: 'over-title', tabindex: '-1' }, words.t(said[0])), said.slice(1).map((k) => h('p', {}, words.t(k)))];
    if (this.#staff && name === 'AGENT_LOST') box.push(h('p', { class: 'notice' }, words.t('AGENT_LOST.staff')));
    const choice = (say, cls, run, focus) => button(words.t(say), cls, run, { say, 'data-focus': focus });
    if (name === 'STILL_THERE') {
      box.unshift(h('div', { class: 'medal ring' }, countdown(this.#link, session.overlay.until, '', '')));
      box.push(h('div', { class: 'buttons' }, choice('do.stay', 'main', () => this.run('stay'), 'do-stay'), choice('do.leave', 'side', () => this.run('stop'), 'do-leave')));
    } else if (name === 'OTHER_SCREEN') {
      box.unshift(h('div', { class: 'medal' }, icon('halted')));
      box.push(h('div', { class: 'buttons' }, choice('do.reload', 'main', () => location.replace('/'), 'do-reload')));
    } else {
      box.unshift(h('div', { class: 'medal' }, icon('working', 'spin')));
    }
    this.#over.replaceChildren(h('div', { class: 'overlay-box' }, box));
    (this.#over.querySelector('button.main') ?? this.#over.querySelector('h1')).focus({ preventScroll: true });
    this.audio.say(...said.map((k) => ({ key: k })));
  }

  /** Makes letters smaller, down to a bound, where the words do not fit. */
  #fit() {
    if (!this.#main) return;
    const spare = (hide) => this.#main.querySelectorAll('.spare').forEach((e) => e.classList.toggle('unseen', hide));
    const over = (e) => e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1;
    // What overflows takes its part's lower edge first: half of that may go, not all. Offsets
    // do not know of a screen that is still coming in.
    const crowded = (e) => {
      const last = e.lastElementChild;
      return last && last.offsetTop + last.offsetHeight > e.offsetTop + e.offsetHeight - parseFloat(getComputedStyle(e).paddingBottom) / 2 + 1;
    };
    let size = 1;
    this.#main.classList.remove('tight');
    spare(false);
    this.#main.style.setProperty('--fit', '1');
    while ((over(this.#stage) || over(this.#act) || crowded(this.#act) || over(this.#main)) && size > smallest) {
      if (this.#main.classList.contains('tight')) size -= 0.04; // first the picture goes
      this.#main.classList.add('tight');
      spare(true);
      this.#main.style.setProperty('--fit', String(size));
    }
  }

  /** The agent fell silent, or is back. Nobody can end the session meanwhile, so what was typed goes at once. */
  #silent(lost) {
    if (!this.docs.session) return;
    const staff = this.#link.silentFor() > staffAfter;
    if (lost === this.#lost && staff === this.#staff) return;
    this.#lost = lost;
    this.#staff = lost && staff;
    if (lost) this.draft?.empty();
    this.redraw();
  }

  #elsewhere() {
    this.#other = true;
    this.draft?.empty();
    if (this.docs.session) this.redraw();
  }

  /** Says what a new screen says, once there is somebody who listens. */
  #announce(more = []) {
    const { session } = this.docs;
    if (session.overlay) return;
    const params = { ...session.params };
    const keys = [session.title, ...session.lines, this.message ?? session.notice].filter(Boolean);
    this.audio.say(...keys.map((key) => ({ key, params })), ...more);
  }

  #speech() {
    this.audio.toggle();
    this.redraw();
    if (!this.audio.speaking) return;
    const { session } = this.docs;
    const { say } = view(this);
    const keys = session.overlay ? [`${session.overlay.state}.title`, `${session.overlay.state}.body`] : [session.title, ...session.lines, session.notice].filter(Boolean);
    this.audio.say({ key: 'speech.on' }, ...keys.map((key) => ({ key, params: session.params })), ...(session.overlay ? [] : say ?? []));
  }

  /** Names the control that the focus came to. */
  #focused(target) {
    if (this.#redrawing) return;
    const { say, char } = target.dataset ?? {};
    if (char !== undefined) this.audio.say({ spell: char });
    else if (say) this.audio.say(...say.split(' ').map((key) => ({ key })));
  }

  #touch(e) {
    this.#touched = performance.now();
    this.#link.activity();
    this.audio.wake();
    cornerTap(this, e);
    if (e.target.closest?.('button:not(:disabled)')) this.audio.tone('key');
  }

  /** On the welcome screen nobody ends a session, so the next customer's look comes back by itself. */
  #forget() {
    if (this.docs.session?.state !== 'ATTRACT' || performance.now() - this.#touched < forgetAfter) return;
    if (!contrast.on && !reach.on && !this.audio.speaking) return;
    resetPrefs();
    if (this.audio.speaking) this.audio.toggle();
    this.redraw();
  }

  /**
   * A keyboard types where the keypad would; Enter on a button is the button's own. Arrows go
   * from control to control, as the keypads for blind users want it. F1 starts and ends speech.
   */
  #key(e) {
    this.#touched = performance.now();
    this.#link.activity();
    this.audio.wake();
    if (e.ctrlKey || e.altKey || e.metaKey) return;
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[e.key];
    if (step) this.#walk(step);
    else if (e.key === 'F1' && !this.#lost) this.#speech();
    else if (!this.onKey || this.#lost || this.#over.hidden === false) return;
    else if (/^[A-Za-z0-9_.-]$/.test(e.key)) this.#type(e.key);
    else if (e.key === 'Backspace') this.#type('delete');
    else if (e.key === 'Enter' && !(document.activeElement instanceof HTMLButtonElement && !document.activeElement.dataset.field)) this.#type('enter');
    else return;
    e.preventDefault();
  }

  #type(key) {
    this.audio.tone('key');
    this.onKey(key);
  }

  #walk(step) {
    const stops = [...this.querySelectorAll('button:not(:disabled)')].filter((b) => !b.closest('[inert]'));
    const at = stops.indexOf(document.activeElement);
    stops.at(at < 0 && step < 0 ? -1 : (at + step) % stops.length)?.focus({ preventScroll: true });
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
