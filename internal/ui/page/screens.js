// Draws one screen from the agent's documents. A view is {say, act, shape}:
// what is told, what can be done, and how the two share a wide screen. It decides nothing.

import { h } from './dom.js';
import { button, countdown, icon, keypad, operationIcon, qrCode } from './parts.js';
import { typed } from './draft.js';

// The command that a screen's large button gives; what else is possible stands smaller.
const primary = {
  ATTRACT: 'start', CONSENT: 'agree', REVIEW: 'confirm', OFFER_QUEUE: 'hold', QUEUED: 'finish', PENDING: 'wait', BIND_QR: 'finish',
};

// These stand in the footer of every screen that has them.
export const footerCommands = ['back', 'stop', 'edit'];

/**
 * Makes a control once per screen and meaning, and gives the same one again at
 * the next redraw: a key that is replaced between two fingers loses a touch.
 */
function keep(app, name, depends, make) {
  const key = JSON.stringify([app.docs.session.screen, app.words.lang, name, depends]);
  const had = app.kept.get(name);
  if (had?.key === key) return had.node;
  const node = make();
  app.kept.set(name, { key, node });
  return node;
}

const withPanel = new Set(['queued', 'doubt', 'waiting', 'done', 'failed', 'nothing', 'halted', 'working']);

/** Builds the view. app gives words, link, docs, draft, run (a command), redraw. */
export function view(app) {
  const { session } = app.docs;
  const build = builders[session.state] ?? plain;
  return build(app);
}

const title = (app) => h('h1', { tabindex: '-1', 'data-focus': 'title' }, app.words.t(app.docs.session.title));

const lines = (app) => app.docs.session.lines.map((key) => h('p', {}, app.words.t(key, app.docs.session.params)));

const notice = (app) => {
  const { session } = app.docs;
  const text = app.message ?? (session.notice && app.words.t(session.notice));
  return text && h('p', { class: 'notice', role: 'alert' }, text);
};

/** The large button and the others, in the agent's order. */
function buttons(app) {
  const { session } = app.docs;
  const names = session.commands.filter((c) => c !== 'lang' && !footerCommands.includes(c));
  const main = names.includes(primary[session.state]) ? primary[session.state] : names.includes('finish') ? 'finish' : names[0];
  const make = (name, cls) => button(app.words.label(session, name), cls, () => app.run(name), { 'data-focus': `do-${name}`, disabled: session.busy });
  return keep(app, 'buttons', [names, session.busy], () => h('div', { class: 'buttons' }, main && make(main, 'main'), names.filter((n) => n !== main).map((n) => make(n, 'side'))));
}

/** The number and code that staff ask for. */
function facts(app, ...more) {
  const { session, request } = app.docs;
  const { words } = app;
  const row = (label, value, cls = '') => value && h('div', { class: 'fact' }, h('dt', {}, label), h('dd', { class: cls }, value));
  const code = session.code && (request?.provider_code ? `${session.code} · ${request.provider_code}` : session.code);
  const list = [
    row(words.t('show.number'), session.reference, 'mono'),
    row(words.t('show.code'), code, 'mono'),
    row(words.t('show.for'), request?.customer),
    ...more,
  ].filter(Boolean);
  return list.length > 0 && h('dl', { class: 'facts' }, list);
}

const service = (app) => {
  const op = app.docs.request?.operation ?? app.docs.session.operation;
  return op && h('p', { class: 'service' }, icon(operationIcon[op] ?? 'card'), app.words.operation(op));
};

/** A screen of words and buttons. With a tone it stands on that tone's panel, with its sign. */
function plain(app, extra = [], rows = []) {
  const { session } = app.docs;
  const panel = withPanel.has(session.tone);
  return {
    shape: panel ? 'told' : '',
    say: [
      service(app),
      h('div', { class: panel ? 'panel' : 'open' }, panel && icon(session.tone, 'sign'), h('div', { class: 'words' }, title(app), lines(app), extra, notice(app))),
      facts(app, rows),
    ],
    act: [buttons(app)],
  };
}

function attract(app) {
  return {
    shape: 'alone',
    say: [h('div', { class: 'welcome' }, icon('hand', 'sign'), title(app), lines(app))],
    act: [buttons(app)],
  };
}

function goodbye(app) {
  return { shape: 'alone', say: [h('div', { class: 'welcome' }, title(app), lines(app))], act: [] };
}

function outOfService(app) {
  const { health } = app.docs;
  const hint = health?.hint && h('p', { class: 'hint' }, h('strong', {}, app.words.t('OUT_OF_SERVICE.staff')), ': ', health.hint);
  return { shape: 'alone', say: [h('div', { class: 'panel' }, icon('halted', 'sign'), h('div', { class: 'words' }, title(app), lines(app), hint)), facts(app)], act: [] };
}

function home(app) {
  const { words, docs } = app;
  const { menu, busy } = docs.session;
  const card = (item) =>
    h(
      'button',
      { type: 'button', class: `card ${item.link}`, disabled: busy || item.link === 'stops', 'data-focus': `op-${item.operation}`, onclick: () => app.run('choose', { operation: item.operation }) },
      icon(operationIcon[item.operation] ?? 'card'),
      h('span', { class: 'card-words' }, h('span', { class: 'card-title' }, words.operation(item.operation)), item.link !== 'ok' && h('span', { class: 'card-note' }, words.t(`HOME.${item.link}`))),
    );
  const body = menu?.length ? lines(app) : h('p', {}, words.t('HOME.empty'));
  return { shape: 'menu', say: [title(app), body, notice(app)], act: [keep(app, 'cards', [menu, busy], () => h('div', { class: 'cards' }, (menu ?? []).map(card)))] };
}

// What is wrong with a field, in the customer's language.
const wrongText = (app, field) => app.draft.wrong?.field === field.name && app.words.t(`rule.${app.draft.wrong.rule}`, field);

const fieldName = (app, field) => app.words.first(`field.${field.name}`, 'field.other');

function bounds(app, field) {
  const key = field.digits ? (field.min === field.max ? 'entry.exact' : 'entry.digits') : 'entry.chars';
  return app.words.t(key, field);
}

function ident(app) {
  const { words, draft, docs } = app;
  const { session } = docs;
  const active = session.fields[draft.active];
  const box = (f, i) => {
    const value = draft.values[f.name];
    const wrong = wrongText(app, f);
    const hint = words.has(`field.${f.name}.hint`) ? words.t(`field.${f.name}.hint`) : bounds(app, f);
    return h(
      'button',
      {
        type: 'button', class: `field${i === draft.active ? ' active' : ''}${wrong ? ' wrong' : ''}`, 'data-focus': `field-${f.name}`, 'data-field': f.name,
        'aria-label': `${fieldName(app, f)}: ${value === '' ? words.t('entry.empty') : value}. ${wrong || hint}`, 'aria-current': i === draft.active ? 'true' : undefined,
        onclick: () => { draft.active = i; app.redraw(); },
      },
      h('span', { class: 'field-name' }, fieldName(app, f)),
      h('span', { class: 'field-value' }, value, i === draft.active && h('span', { class: 'caret' })),
      wrong ? h('span', { class: 'field-wrong', role: 'alert' }, wrong) : h('span', { class: 'field-hint' }, hint),
    );
  };
  const last = draft.active === session.fields.length - 1;
  const next = () => {
    if (!last) {
      draft.active += 1;
      app.redraw();
      return;
    }
    if (!session.busy) app.run('submit_fields', { ...draft.values });
  };
  app.onKey = (key) => {
    if (key === 'enter') return next();
    draft.values[active.name] = typed(draft.values[active.name], key, active);
    if (draft.wrong?.field === active.name) draft.wrong = null;
    return app.redraw();
  };
  return {
    shape: active.digits ? '' : 'wide',
    say: [title(app), session.lines.length > 0 && lines(app), h('div', { class: 'fields' }, session.fields.map(box)), notice(app)],
    act: [
      keep(app, 'pad', active.digits, () => keypad(words, active.digits ? 'digits' : 'letters', false, (k) => app.onKey(k))),
      keep(app, 'buttons', [last, session.busy], () =>
        h('div', { class: 'buttons' }, button(last ? words.label(session, 'submit_fields') : words.t('key.next'), 'main', () => app.onKey('enter'), { 'data-focus': 'do-next', disabled: session.busy })),
      ),
    ],
  };
}

/** A screen where something secret is typed: masked, and without any sign on the key that was pressed. */
function secretEntry(command, arg) {
  return (app) => {
    const { words, draft, docs, link } = app;
    const { session, request } = docs;
    const field = session.entry;
    const send = () => {
      const value = draft.secret;
      draft.forget();
      app.run(command, { [arg]: value });
    };
    app.onKey = (key) => {
      if (key === 'enter') return draft.secret.length < field.min || session.busy ? undefined : send();
      draft.secret = typed(draft.secret, key, field);
      draft.wrong = null;
      return app.redraw();
    };
    const n = draft.secret.length;
    const wrong = draft.wrong && words.t(`rule.${draft.wrong.rule}`, field);
    const box = h(
      'div',
      { class: `field secret active${wrong ? ' wrong' : ''}`, role: 'group', 'aria-label': words.t(`${session.state}.label`) },
      h('span', { class: 'field-name' }, words.t(`${session.state}.label`)),
      h('span', { class: 'field-value', role: 'status', 'aria-label': n === 0 ? words.t('entry.empty') : words.t('entry.typed', { n }) }, '●'.repeat(n), h('span', { class: 'caret' })),
      wrong ? h('span', { class: 'field-wrong', role: 'alert' }, wrong) : h('span', { class: 'field-hint' }, bounds(app, field)),
    );
    const left = request?.await_till && countdown(link, request.await_till, words.t(`${session.state}.left`), words.t(`${session.state}.late`));
    const others = session.commands.filter((c) => c === 'finish');
    return {
      say: [title(app), lines(app), notice(app), box, left],
      act: [
        keep(app, 'pad', true, () => keypad(words, 'digits', true, (k) => app.onKey(k))),
        keep(app, 'buttons', [others, session.busy, n < field.min], () =>
          h(
            'div',
            { class: 'buttons' },
            button(words.label(session, command), 'main', () => app.onKey('enter'), { 'data-focus': 'do-send', disabled: session.busy || n < field.min }),
            others.map((c) => button(words.label(session, c), 'side', () => app.run(c), { 'data-focus': `do-${c}`, disabled: session.busy })),
          ),
        ),
      ],
    };
  };
}

function review(app) {
  const { words, docs } = app;
  const { session } = docs;
  const rows = session.fields.map((f) => h('div', { class: 'fact' }, h('dt', {}, fieldName(app, f)), h('dd', {}, f.value)));
  const pin = session.operation === 'prepaid.reset_pin' && h('p', { class: 'small' }, words.t('REVIEW.pin'));
  return { say: [service(app), title(app), h('dl', { class: 'facts big' }, rows), pin, lines(app), notice(app)], act: [buttons(app)] };
}

function working(app) {
  const { words, docs } = app;
  const stages = [['saved', 'done'], ['sent', 'current'], ['answer', 'next']];
  const list = h('ol', { class: 'stages' }, stages.map(([name, at]) => h('li', { class: at }, h('span', { class: 'stage-name' }, words.t(`WORKING.stage.${name}`)), h('span', { class: 'stage-at' }, words.t(`WORKING.stage.${at}`)))));
  return plain(app, [list]);
}

function queued(app) {
  const { words, docs } = app;
  const until = docs.request?.expires && h('div', { class: 'fact' }, h('dt', {}, words.t('QUEUED.until')), h('dd', {}, words.time(docs.request.expires)));
  return plain(app, [], [until]);
}

function bindQR(app) {
  const { words, docs, link } = app;
  const { request } = docs;
  const code = request?.link?.qr;
  return {
    say: [
      title(app), lines(app), notice(app),
      request?.link && h('dl', { class: 'facts' }, h('div', { class: 'fact' }, h('dt', {}, words.t('BIND_QR.domain')), h('dd', { class: 'mono' }, request.link.domain))),
      request?.await_till && countdown(link, request.await_till, words.t('BIND_QR.left'), words.t('BIND_QR.late')),
    ],
    act: [code ? qrCode(code, words.t('BIND_QR.alt')) : h('p', { class: 'notice' }, words.t('BIND_QR.missing')), buttons(app)],
  };
}

function waiting(app) {
  const { words, docs, link } = app;
  const { session, cooldown } = docs;
  const keys = session.state === 'DONE' ? ['DONE.again', 'DONE.again.over'] : [`${session.state}.again`, `${session.state}.over`];
  return plain(app, cooldown ? [countdown(link, cooldown.until, words.t(keys[0]), words.t(keys[1]))] : []);
}

function receipt(app) {
  const { words, docs } = app;
  const { rows, qr } = docs.session.receipt;
  const value = (r) => (r.text ? words.t(r.text) : r.time ? words.dateTime(r.time) : r.value);
  return {
    say: [title(app), lines(app), h('dl', { class: 'facts' }, rows.map((r) => h('div', { class: r.text ? 'fact whole' : 'fact' }, h('dt', {}, words.t(r.label)), h('dd', {}, value(r)))))],
    act: [qr && qrCode(qr, words.t('RECEIPT.alt')), buttons(app)],
  };
}

/** Staff type their code; where the card's issuer is asked instead, there is nothing to type. */
function verify(app) {
  return app.docs.session.entry ? secretEntry('staff_code', 'code')(app) : plain(app);
}

const builders = {
  ATTRACT: attract,
  GOODBYE: goodbye,
  OUT_OF_SERVICE: outOfService,
  HOME: home,
  IDENT: ident,
  VERIFY: verify,
  PIN: secretEntry('submit_pin', 'pin'),
  PIN_AGAIN: secretEntry('submit_pin', 'pin'),
  OTP: secretEntry('submit_otp', 'otp'),
  OTP_BAD: secretEntry('submit_otp', 'otp'),
  REVIEW: review,
  WORKING: working,
  QUEUED: queued,
  BIND_QR: bindQR,
  DONE: waiting,
  COOLDOWN: waiting,
  LIMIT: waiting,
  RECEIPT: receipt,
};
