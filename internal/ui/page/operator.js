// The operator's screens. Like the others they show what the agent says; only the way to an
// order (what, why, sure) is the page's own, and lives in the draft.

import { h } from './dom.js';
import { button, keypad } from './parts.js';
import { typed } from './draft.js';
import { fact, keep, lines, notice, title } from './screens.js';

// This module and screens.js know each other: nothing of screens.js may be used before a screen is drawn.

const told = (app, ...more) => [title(app), lines(app), more, notice(app)];

/** The title where the pad may need the room: then only who listens is told it. */
const heard = (app) => h('h1', { class: 'spare', tabindex: '-1', 'data-focus': 'title' }, app.words.t(app.docs.session.title));

const act = (app, key, run, { cls = 'side', focus, params, ...more } = {}) =>
  button(app.words.t(key, params), cls, run, { 'data-focus': focus, disabled: app.docs.session.busy, ...more });

/** A button for each of some commands that the agent would obey now. */
const choices = (app, ...names) =>
  names.filter((c) => app.docs.session.commands.includes(c)).map((c, i) => act(app, app.words.labelKey(app.docs.session, c), () => app.run(c), { cls: i === 0 ? 'main' : 'side', focus: `do-${c}` }));

function login(app) {
  const { words, draft, docs } = app;
  const { session } = docs;
  const [id] = session.fields;
  const code = session.entry;
  const coding = draft.active === 1;
  const digits = !coding || !draft.letters;
  const ready = coding ? draft.secret.length >= code.min : draft.values.operator.length >= id.min;
  app.onKey = (key) => {
    if (key === 'enter') {
      if (!ready || session.busy) return;
      if (!coding) {
        draft.active = 1;
        app.redraw();
        return;
      }
      const value = draft.secret;
      draft.forget();
      app.run('op_login', { id: draft.values.operator, code: value });
      return;
    }
    if (coding) draft.secret = typed(draft.secret, key, { ...code, digits });
    else draft.values.operator = typed(draft.values.operator, key, id);
    app.redraw();
  };
  const box = (i, name, value, hint) =>
    h('button', { type: 'button', class: `field${draft.active === i ? ' active' : ''}`, 'data-focus': `field-${name}`, 'data-field': name, onclick: () => { draft.active = i; app.redraw(); } },
      h('span', { class: 'field-name' }, words.t(`OP_LOGIN.${name}`)),
      h('span', { class: 'field-value' }, value, draft.active === i && h('span', { class: 'caret' })),
      hint && h('span', { class: 'field-hint' }, hint));
  const dots = Array.from({ length: draft.secret.length }, () => h('span', { class: 'dot' }));
  const kind = draft.letters ? 'OP_LOGIN.do.digits' : 'OP_LOGIN.do.letters';
  return {
    shape: digits ? 'typing' : 'typing letters',
    stage: [digits ? told(app) : [heard(app), notice(app)], h('div', { class: 'fields' }, digits && box(0, 'id', draft.values.operator), box(1, 'code', dots, words.t('OP_LOGIN.code.hint')))],
    act: [
      keep(app, 'pad', [digits, coding], () => keypad(words, digits ? 'digits' : 'letters', coding, (k) => app.onKey(k))),
      h('div', { class: 'buttons' },
        button(words.t(coding ? 'OP_LOGIN.do.op_login' : 'key.next'), 'main', () => app.onKey('enter'), { 'data-focus': 'do-send', disabled: session.busy || !ready }),
        coding && act(app, kind, () => { draft.letters = !draft.letters; draft.forget(); app.redraw(); }, { focus: 'do-kind' })),
    ],
  };
}

const count = (words, counts) => Object.entries(counts).filter(([, n]) => n > 0).map(([state, n]) => `${words.t(`state.${state}`)} ${n}`).join(' · ');

function provider(words, l) {
  const next = l.next_try ? ` · ${words.t('OP_HOME.next', { time: words.time(l.next_try) })}` : '';
  if (!l.known) return words.t('OP_HOME.unknown');
  if (l.up) return words.t('OP_HOME.up');
  const why = l.reason && words.has(`reason.${l.reason}`) ? ` · ${words.t(`reason.${l.reason}`)}` : '';
  return words.t(l.held ? 'OP_HOME.held' : 'OP_HOME.down') + why + next;
}

function home(app) {
  const { words, docs } = app;
  const { operator: op, health } = docs;
  if (!op?.looked) return { stage: [title(app), h('p', {}, words.t('OP_HOME.looking'))], act: [h('div', { class: 'buttons' }, choices(app, 'op_queue', 'op_test', 'op_drain'))] };
  const open = count(words, op.counts);
  const row = (label, value, fine) => fact(label, value, fine ? 'whole' : 'whole bad');
  return {
    shape: 'menu',
    stage: [told(app), op.method === 'recovery' && h('p', { class: 'notice' }, words.t('OP_HOME.recovery', { n: op.recovery_left }))],
    act: [
      h('dl', { class: 'facts ticket operator-facts dense' },
        !health.ok && row(words.t('OUT_OF_SERVICE.staff'), health.hint || health.reason, false),
        row(words.t('OP_HOME.version'), `${op.version} · kiosk ${op.kiosk}`, true),
        row(words.t('OP_HOME.uptime'), words.dateTime(op.started), true),
        row(words.t('OP_HOME.token'), words.t(op.token || 'OP_HOME.fine'), !op.token),
        row(words.t('OP_HOME.clock'), words.t(op.clock ? 'OP_HOME.clock.kept' : 'OP_HOME.clock.loose'), op.clock),
        op.providers.map((l) => row(l.provider, provider(words, l), !l.known || l.up)),
        row(words.t('OP_HOME.queue'), op.serving ? open || words.t('OP_HOME.queue.none') : words.t('OP_HOME.queue.closed'), op.serving),
        row(words.t('OP_HOME.disk'), words.t('OP_HOME.disk.free', { n: op.free_mb }), op.free_mb > 256),
        row(words.t('OP_HOME.audit'), String(op.audit), op.audit > 0)),
      h('div', { class: 'buttons operator-row' }, choices(app, 'op_queue', 'op_test', 'op_drain')),
    ],
  };
}

const why = (words, r) => (r.reason && words.has(`reason.${r.reason}`) ? words.t(`reason.${r.reason}`) : '');

function queue(app) {
  const { words, docs, link } = app;
  const op = docs.operator;
  if (!op?.rows) return { stage: told(app), act: [] };
  const age = (ms) => `${Math.max(0, Math.round((link.now() - ms) / 60_000))} min`;
  const card = (r) =>
    h('button', { type: 'button', class: 'card', 'data-focus': `op-${r.number}`, disabled: docs.session.busy, onclick: () => app.run('op_pick', { number: r.number }) },
      h('span', { class: 'card-words' },
        h('span', { class: 'card-title' }, `${r.number} · ${words.t(`state.${r.state}`)}`),
        h('span', { class: 'card-note' }, [r.operation && words.operation(r.operation), r.created && words.t('OP_QUEUE.age', { time: age(r.created) })].filter(Boolean).join(' · ')),
        h('span', { class: 'card-note' }, words.t(r.advice))));
  const page = (to, enabled) => act(app, `OP_QUEUE.do.${to}`, () => app.run('op_page', { to }), { focus: `do-${to}`, disabled: !enabled || docs.session.busy });
  return {
    shape: 'menu',
    stage: [told(app), h('p', {}, op.rows.length ? words.t('OP_QUEUE.pages', { at: op.page, of: op.pages }) : words.t('OP_QUEUE.none'))],
    act: [h('div', { class: 'cards' }, op.rows.map(card)), op.pages > 1 && h('div', { class: 'buttons row' }, page('last', op.page > 1), page('next', op.page < op.pages))],
  };
}

function request(app) {
  const { words, draft, docs } = app;
  const op = docs.operator;
  const r = op?.request;
  if (!r) return { stage: told(app), act: [] };
  const says = op.says && h('p', { class: 'hint' }, op.says);
  const facts = h('dl', { class: 'facts ticket operator-facts' },
    fact(words.t('show.number'), r.number, 'mono number'),
    fact(words.t('OP_REQUEST.state'), words.t(`state.${r.state}`), 'whole'),
    fact(words.t('OP_REQUEST.why'), [why(words, r), r.code].filter(Boolean).join(' · '), 'whole'),
    fact(words.t('OP_REQUEST.created'), r.created && words.dateTime(r.created), 'whole'),
    fact(words.t('OP_REQUEST.next'), r.next_try && words.time(r.next_try), 'whole'));
  const set = (change) => { Object.assign(draft, change); app.redraw(); };
  if (draft.act && !op.acts.includes(draft.act)) Object.assign(draft, { act: '', evidence: '', note: '' });
  const label = draft.act && words.t(`OP_REQUEST.do.${draft.act}`);
  if (!draft.act) {
    return {
      shape: 'operator',
      stage: [told(app), r.operation && h('p', {}, words.operation(r.operation)), h('p', {}, words.t(r.advice)), says],
      act: [facts, h('div', { class: 'buttons operator-row two' }, op.acts.length ? op.acts.map((a) => act(app, `OP_REQUEST.do.${a}`, () => set({ act: a }), { focus: `act-${a}` })) : h('p', {}, words.t('OP_REQUEST.none')))],
    };
  }
  const other = act(app, 'OP_REQUEST.do.other', () => set({ act: '', evidence: '', note: '' }), { focus: 'do-other' });
  if (!draft.evidence) {
    return {
      shape: 'menu',
      stage: [title(app), h('p', {}, `${r.number} · ${label}`), h('p', {}, words.t('OP_REQUEST.choose'))],
      act: [h('div', { class: 'buttons' }, op.evidence.map((e) => act(app, `evidence.${e}`, () => set({ evidence: e, note: '' }), { focus: `evidence-${e}` })), other)],
    };
  }
  const send = () => {
    const order = { act: draft.act, evidence: draft.evidence, note: draft.note };
    set({ act: '', evidence: '', note: '' });
    app.run('op_act', order);
  };
  app.onKey = (key) => (key === 'enter' ? send() : set({ note: typed(draft.note, key, { max: op.note_max, digits: false }) }));
  return {
    shape: 'typing letters',
    stage: [
      heard(app), h('p', {}, `${r.number} · ${words.t(`evidence.${draft.evidence}`)}`),
      h('div', { class: 'field active', role: 'group', 'aria-label': words.t('OP_REQUEST.ticket') }, h('span', { class: 'field-name' }, words.t('OP_REQUEST.ticket')), h('span', { class: 'field-value' }, draft.note, h('span', { class: 'caret' }))),
    ],
    act: [
      keep(app, 'pad', 'note', () => keypad(words, 'letters', false, (k) => app.onKey(k))),
      h('div', { class: 'buttons' }, act(app, 'OP_REQUEST.do.op_act', send, { cls: 'main', focus: 'do-op_act', params: { act: label } }), other),
    ],
  };
}

const fields = 32; // four by eight, over all of the glass that the screens use
const colours = ['red', 'green', 'blue', 'white', 'black'];

function test(app) {
  const { words, draft } = app;
  draft.touched ??= [];
  const left = fields - draft.touched.length;
  const field = (n) =>
    h('button', { type: 'button', class: 'test-field', 'aria-label': words.t('OP_TEST.field', { n: n + 1 }), 'data-focus': `field-${n}`, 'aria-pressed': String(draft.touched.includes(n)), onclick: () => { if (!draft.touched.includes(n)) draft.touched = [...draft.touched, n]; app.redraw(); } });
  const sound = () => ['key', 'success', 'attention'].forEach((name, i) => setTimeout(() => app.audio.tone(name), 900 * i));
  return {
    shape: 'panel',
    stage: [told(app), h('p', { role: 'status' }, left ? words.t('OP_TEST.left', { n: left }) : words.t('OP_TEST.all'))],
    act: [
      h('div', { class: 'test-grid' }, Array.from({ length: fields }, (_, n) => field(n))),
      h('div', { class: 'test-row' },
        h('div', { class: 'test-colours', 'aria-hidden': 'true' }, colours.map((c) => h('span', { class: `test-${c}` }))),
        act(app, 'OP_TEST.do.sound', sound, { cls: 'main', focus: 'do-sound' })),
    ],
  };
}

function drain(app) {
  const { words, draft, docs } = app;
  const op = docs.operator;
  if (!op) return { stage: told(app), act: [] };
  const may = (c) => docs.session.commands.includes(c);
  const quiet = op.serving && op.open === 0;
  const sure = () => { draft.sure = true; app.redraw(); };
  return {
    shape: 'operator',
    stage: [told(app), h('p', { class: op.draining ? 'notice' : '' }, words.t(op.draining ? 'OP_DRAIN.stopped' : 'OP_DRAIN.serving')), op.says && h('p', { class: 'hint' }, op.says)],
    act: [
      h('dl', { class: 'facts ticket operator-facts' },
        fact(words.t('OP_DRAIN.sending'), String(op.sending), 'whole'),
        fact(words.t('OP_DRAIN.open'), String(op.open), 'whole')),
      quiet && h('p', {}, words.t('OP_DRAIN.quiet')),
      h('div', { class: 'buttons' },
        may('op_close') && act(app, 'OP_DRAIN.do.op_close', () => app.run('op_close'), { cls: 'main', focus: 'do-op_close' }),
        may('op_restart') && (draft.sure ? act(app, 'OP_DRAIN.do.sure', () => app.run('op_restart'), { cls: 'main', focus: 'do-sure' }) : act(app, 'OP_DRAIN.do.op_restart', sure, { focus: 'do-op_restart' })),
        may('op_serve') && act(app, 'OP_DRAIN.do.op_serve', () => app.run('op_serve'), { focus: 'do-op_serve' })),
    ],
  };
}

export const operatorViews = { OP_LOGIN: login, OP_HOME: home, OP_QUEUE: queue, OP_REQUEST: request, OP_TEST: test, OP_DRAIN: drain };
