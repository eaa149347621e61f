// Draws one screen from the agent's documents. A view is {stage, act, shape, say}: what is told, what
// can be done, how the two share the screen, and what is spoken besides title and lines. It decides nothing.

import { h } from './dom.js';
import { button, countdown, icon, keypad, operationIcon, qrCode } from './parts.js';
import { operatorViews } from './operator.js';
import { typed } from './draft.js';

// The command that a screen's large button gives; what else is possible stands smaller.
const primary = {
  ATTRACT: 'start', CONSENT: 'agree', REVIEW: 'confirm', OFFER_QUEUE: 'hold', QUEUED: 'finish', PENDING: 'wait', BIND_QR: 'finish',
};

// These stand in the footer of every screen that has them, with their signs.
export const footerCommands = { back: 'back', edit: 'edit', stop: 'stop', op_exit: 'stop' };

// These belong to the footer's tools and to the question over a screen.
const ofOthers = ['lang', 'stay', 'operator'];

// The sign of a calm screen; the others wear their tone's.
const signs = { ATTRACT: 'hand', HOME: 'hand', CONSENT: 'safe', IDENT: 'id', VERIFY: 'staff', PIN: 'pin', PIN_AGAIN: 'pin', REVIEW: 'edit', RECEIPT: 'receipt', GOODBYE: 'bye', BIND_QR: 'scan', OTP: 'message', OTP_BAD: 'message' };

/**
 * Makes a control once per screen and meaning, and gives the same one again at
 * the next redraw: a key that is replaced between two fingers loses a touch.
 */
export function keep(app, name, depends, make) {
  const key = JSON.stringify([app.docs.session.screen, app.words.lang, name, depends]);
  const had = app.kept.get(name);
  if (had?.key === key) return had.node;
  const node = make();
  app.kept.set(name, { key, node });
  return node;
}

/** How much time is left, for who cannot see it counted. */
const spokenLeft = (app, until, before, over) => {
  const left = Math.round((until - app.link.now()) / 1000);
  if (left <= 0) return [{ key: over }];
  const minutes = Math.round(left / 60);
  if (left < 60) return [{ key: before }, { key: 'show.seconds', params: { n: left } }];
  return [{ key: before }, { key: minutes === 1 ? 'show.minute' : 'show.minutes', params: { n: minutes } }];
};

/** What the banner says: what can be done without a connection. */
const spokenOffline = ({ docs: { network } }) => {
  if (!network?.offline) return [];
  const list = (key, operations) => operations.length > 0 && { key, params: { list: operations.map((o) => `operation.${o}`) } };
  return [{ key: 'OFFLINE.title' }, list('OFFLINE.works', network.works), list('OFFLINE.waits', network.waits), list('OFFLINE.stops', network.stops)];
};

/** Builds the view. app gives words, link, docs, draft, run (a command), redraw. */
export function view(app) {
  const { session } = app.docs;
  const build = builders[session.state] ?? plain;
  return build(app);
}

const medal = (app) => {
  const { session } = app.docs;
  const sign = signs[session.state] ?? (session.tone === 'calm' ? undefined : session.tone);
  return sign && h('div', { class: 'medal' }, icon(sign, session.tone === 'working' ? 'spin' : ''));
};

/** A title of two sentences breaks between them, not after the first word of the second. */
export const title = (app) => {
  const sentences = app.words.t(app.docs.session.title, app.docs.session.params).split(/(?<=[.?!]) /);
  return h('h1', { tabindex: '-1', 'data-focus': 'title' }, sentences.length === 1 ? sentences : sentences.map((s, i) => [i > 0 && ' ', h('span', {}, s)]));
};

export const lines = (app) => app.docs.session.lines.map((key) => h('p', {}, app.words.t(key, app.docs.session.params)));

export const notice = (app) => {
  const { session } = app.docs;
  const key = app.message ?? session.notice;
  return key && h('p', { class: 'notice', role: 'alert' }, app.words.t(key));
};

/** What every stage begins with. */
const told = (app, ...more) => [service(app), medal(app), title(app), lines(app), more, notice(app)];

/** The large button and the others, in the agent's order. */
function buttons(app) {
  const { session } = app.docs;
  const names = session.commands.filter((c) => !ofOthers.includes(c) && !c.startsWith('submit_') && !(c in footerCommands));
  const main = names.includes(primary[session.state]) ? primary[session.state] : names.includes('finish') ? 'finish' : names[0];
  const make = (name, cls) => {
    const say = app.words.labelKey(session, name);
    return button(app.words.t(say), cls, () => app.run(name), { 'data-focus': `do-${name}`, say, disabled: session.busy });
  };
  if (names.length === 0) return null;
  return keep(app, 'buttons', [names, session.busy], () => h('div', { class: 'buttons' }, make(main, 'main'), names.filter((n) => n !== main).map((n) => make(n, 'side'))));
}

export const fact = (label, value, cls = '') => value && h('div', { class: `fact ${cls}` }, h('dt', {}, label), h('dd', {}, value));

/** The number and code that staff ask for. */
function facts(app, ...more) {
  const { session, request } = app.docs;
  const { words } = app;
  const code = session.code && (request?.provider_code ? `${session.code} · ${request.provider_code}` : session.code);
  const beside = (text, most) => (text?.length > most ? 'mono whole' : 'mono'); // what is longer would break in its column
  const list = [
    fact(words.t('show.number'), session.reference, 'mono number'),
    fact(words.t('show.for'), request?.customer, beside(request?.customer, 12)),
    fact(words.t('show.code'), code, beside(code, 11)),
    ...more,
  ].flat().filter(Boolean);
  return list.length > 0 && h('dl', { class: 'facts ticket' }, list);
}

const service = (app) => {
  const op = app.docs.request?.operation ?? app.docs.session.operation;
  return op && h('p', { class: 'service' }, icon(operationIcon[op] ?? 'card'), app.words.operation(op));
};

const spokenNumber = (app) => (app.docs.session.reference ? [{ key: 'show.number' }, { number: app.docs.session.reference }] : []);

/** A screen of words and buttons. */
const plain = (app, more = [], rows = [], say = []) => ({ stage: told(app, more), act: [facts(app, rows), buttons(app)], say: [...say, ...spokenNumber(app)] });

function attract(app) {
  const { network } = app.docs;
  const offered = network ? [...network.works, ...network.waits, ...network.stops] : [];
  const item = (op) => h('li', {}, icon(operationIcon[op] ?? 'card'), h('span', {}, app.words.operation(op)));
  const stage = h('div', { class: 'welcome' }, h('div', { class: 'medal beckon' }, icon('hand')), title(app), lines(app));
  stage.addEventListener('click', () => app.run('start')); // the whole picture invites; the button is for everybody
  return { shape: 'open', say: spokenOffline(app), stage: [stage], act: [keep(app, 'offers', offered, () => offered.length > 0 && h('ul', { class: 'offers' }, offered.map(item))), buttons(app)] };
}

function home(app) {
  const { words, docs } = app;
  const { menu, busy } = docs.session;
  const card = (item) =>
    h(
      'button',
      { type: 'button', class: `card ${item.link}`, disabled: busy || item.link === 'stops', 'data-focus': `op-${item.operation}`, 'data-say': [`operation.${item.operation}`, item.link === 'waits' && 'HOME.waits'].filter(Boolean).join(' '), onclick: () => app.run('choose', { operation: item.operation }) },
      h('span', { class: 'card-sign' }, icon(operationIcon[item.operation] ?? 'card')),
      h('span', { class: 'card-words' }, h('span', { class: 'card-title' }, words.operation(item.operation)), item.link !== 'ok' && h('span', { class: 'card-note' }, words.t(`HOME.${item.link}`))),
      icon('next', 'card-next'),
    );
  const body = menu?.length ? lines(app) : h('p', {}, words.t('HOME.empty'));
  return { shape: 'menu', say: spokenOffline(app), stage: [medal(app), title(app), body, notice(app)], act: [keep(app, 'cards', [menu, busy], () => h('div', { class: 'cards' }, (menu ?? []).map(card)))] };
}

// What is wrong with a field, in the customer's language.
const wrongText = (app, field) => app.draft.wrong?.field === field.name && app.words.t(`rule.${app.draft.wrong.rule}`, field);

const fieldKey = (app, field) => app.words.firstKey(`field.${field.name}`, 'field.other');

function hintKey(app, field) {
  if (app.words.has(`field.${field.name}.hint`)) return `field.${field.name}.hint`;
  return field.digits ? (field.min === field.max ? 'entry.exact' : 'entry.digits') : 'entry.chars';
}

function ident(app) {
  const { words, draft, docs } = app;
  const { session } = docs;
  const active = session.fields[draft.active];
  const box = (f, i) => {
    const value = draft.values[f.name];
    const wrong = wrongText(app, f);
    const hint = words.t(hintKey(app, f), f);
    const name = words.t(fieldKey(app, f));
    return h(
      'button',
      {
        type: 'button', class: `field${i === draft.active ? ' active' : ''}${wrong ? ' wrong' : ''}`, 'data-focus': `field-${f.name}`, 'data-field': f.name, 'data-say': fieldKey(app, f),
        'aria-current': i === draft.active ? 'true' : undefined,
        onclick: () => { draft.active = i; app.redraw(); },
      },
      h('span', { class: 'field-name' }, name),
      h('span', { class: 'field-value' }, value || h('span', { class: 'unseen' }, words.t('entry.empty')), i === draft.active && h('span', { class: 'caret' })),
      wrong ? h('span', { class: 'field-wrong', role: 'alert' }, wrong) : (i === draft.active || session.fields.length === 1) && h('span', { class: 'field-hint' }, hint),
    );
  };
  const last = draft.active === session.fields.length - 1;
  const next = () => {
    if (!last) {
      draft.active += 1;
      app.redraw();
      app.audio.say({ key: fieldKey(app, session.fields[draft.active]) });
      return;
    }
    if (!session.busy) app.run('submit_fields', { ...draft.values });
  };
  app.onKey = (key) => {
    if (key === 'enter') return next();
    draft.values[active.name] = typed(draft.values[active.name], key, active);
    if (draft.wrong?.field === active.name) draft.wrong = null;
    app.audio.say(key.length === 1 ? { spell: key } : { key: `key.${key}` });
    return app.redraw();
  };
  const doNext = last ? words.labelKey(session, 'submit_fields') : 'key.next';
  const wrong = draft.wrong && session.fields.find((f) => f.name === draft.wrong.field);
  return {
    shape: active.digits ? 'typing' : 'typing letters',
    say: [{ key: fieldKey(app, active) }, ...(wrong ? [{ key: `rule.${draft.wrong.rule}`, params: wrong }] : [{ key: hintKey(app, active), params: active }])],
    stage: [medal(app), title(app), lines(app), h('div', { class: 'fields' }, session.fields.map(box)), notice(app)],
    act: [
      keep(app, 'pad', active.digits, () => keypad(words, active.digits ? 'digits' : 'letters', false, (k) => app.onKey(k))),
      keep(app, 'buttons', [last, session.busy], () => h('div', { class: 'buttons' }, button(words.t(doNext), 'main', () => app.onKey('enter'), { 'data-focus': 'do-next', say: doNext, disabled: session.busy }))),
    ],
  };
}

const mostDots = 24; // of a long code; readers are told the number

/** A screen where something secret is typed: masked, without any sign on the key that was pressed, and never spoken. */
function secretEntry(command, arg, more = () => []) {
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
    const label = `${session.state}.label`;
    const bounds = hintKey(app, { ...field, name: '' });
    const box = h(
      'div',
      { class: `field secret active${wrong ? ' wrong' : ''}`, role: 'group', 'aria-label': words.t(label) },
      h('span', { class: 'field-name' }, words.t(label)),
      h('span', { class: 'field-value', role: 'status', 'aria-label': n === 0 ? words.t('entry.empty') : words.t('entry.typed', { n }) }, Array.from({ length: Math.min(n, mostDots) }, () => h('span', { class: 'dot' })), h('span', { class: 'caret' })),
      wrong ? h('span', { class: 'field-wrong', role: 'alert' }, wrong) : h('span', { class: 'field-hint' }, words.t(bounds, field)),
    );
    const ends = [`${session.state}.left`, `${session.state}.late`];
    const left = request?.await_till && countdown(link, request.await_till, ...ends.map((key) => words.t(key)));
    const others = session.commands.filter((c) => !ofOthers.includes(c) && c !== command && !c.startsWith('submit_') && !(c in footerCommands));
    const make = (c, cls, run, more) => {
      const say = words.labelKey(session, c);
      return button(words.t(say), cls, run, { say, ...more });
    };
    return {
      shape: field.digits ? 'typing' : 'typing letters',
      say: [{ key: label }, { key: bounds, params: field }, ...(left ? spokenLeft(app, request.await_till, ...ends) : [])],
      stage: [service(app), medal(app), draft.coding ? h('h1', { class: notice(app) ? 'spare' : '', tabindex: '-1', 'data-focus': 'title' }, words.t('BIND_QR.do.type_code')) : [title(app), lines(app)], notice(app), h('div', { class: 'fields' }, box, left)],
      act: [
        keep(app, 'pad', [command, field.digits], () => keypad(words, field.digits ? 'digits' : 'letters', true, (k) => app.onKey(k))),
        keep(app, 'buttons', [command, others, session.busy, n < field.min], () =>
          h(
            'div',
            { class: 'buttons' },
            make(command, 'main', () => app.onKey('enter'), { 'data-focus': 'do-send', disabled: session.busy || n < field.min }),
            more(app),
            others.map((c) => make(c, 'side', () => app.run(c), { 'data-focus': `do-${c}`, disabled: session.busy })),
          ),
        ),
      ],
    };
  };
}

function review(app) {
  const { words, docs } = app;
  const { session } = docs;
  const rows = session.fields.map((f) => fact(words.t(fieldKey(app, f)), f.value, 'mono'));
  const pin = session.operation === 'prepaid.reset_pin' && h('p', { class: 'done-note' }, icon('done'), words.t('REVIEW.pin'));
  const say = session.fields.flatMap((f) => [{ key: fieldKey(app, f) }, { spell: f.value ?? '' }]);
  return { say, stage: told(app), act: [h('dl', { class: 'facts ticket big' }, rows), pin, buttons(app)] };
}

/** Where the request stands: what the journal says of it, never a guess. */
function working(app) {
  const { words, docs } = app;
  const { request } = docs;
  if (!request) return plain(app);
  const saved = request.step > 1 ? 'WORKING.stage.saved.second' : 'WORKING.stage.saved';
  const sending = request.state === 'sending';
  const stages = [[saved, 'done'], ['WORKING.stage.sent', sending ? 'current' : 'next'], ['WORKING.stage.answer', 'next']];
  const list = h('ol', { class: 'stages' }, stages.map(([name, at]) => h('li', { class: at }, h('span', { class: 'stage-mark' }, at === 'done' && icon('done')), h('span', { class: 'stage-name' }, words.t(name)), h('span', { class: 'stage-at' }, words.t(`WORKING.stage.${at}`)))));
  return { stage: told(app), act: [list, facts(app)], say: [] };
}

function queued(app) {
  const { words, docs } = app;
  const until = docs.request?.expires;
  return plain(app, [], [fact(words.t('QUEUED.until'), until && words.time(until))], until ? [{ key: 'QUEUED.until' }, { time: new Date(until) }] : []);
}

const staffCode = secretEntry('staff_code', 'code');

// What the customer's page ends with, where the provider wants it back.
const codeEntry = secretEntry('submit_code', 'code', (app) => app.docs.request?.link?.qr && button(app.words.t('do.back'), 'side', () => { app.draft.empty(); app.draft.coding = false; app.redraw(); }, { 'data-focus': 'do-scan', say: 'do.back' }));

/** A domain that breaks before a dot and nowhere else, since it is to be compared. */
const domain = (name) => name?.split(/(?=\.)/).flatMap((part, i) => (i === 0 ? [part] : [h('wbr'), part]));

function bindQR(app) {
  const { words, docs, link } = app;
  const { request, session } = docs;
  const code = request?.link?.qr;
  const wanted = session.commands.includes('submit_code') && session.entry;
  if (wanted && (app.draft.coding || !code)) return codeEntry(app);
  const leave = words.labelKey(session, 'finish');
  const choices = () => [
    wanted && button(words.t('BIND_QR.do.type_code'), 'side', () => { app.draft.coding = true; app.redraw(); }, { 'data-focus': 'do-type-code', say: 'BIND_QR.do.type_code' }),
    button(words.t(leave), wanted ? 'side' : 'main', () => app.run('finish'), { 'data-focus': 'do-finish', say: leave, disabled: session.busy }),
  ];
  return {
    shape: 'scan',
    say: [...(request?.await_till ? spokenLeft(app, request.await_till, 'BIND_QR.left', 'BIND_QR.late') : []), ...(request?.link ? [{ key: 'BIND_QR.domain' }, { spell: request.link.domain }] : [])],
    stage: [
      medal(app), title(app), lines(app), notice(app),
      request?.link && h('dl', { class: 'facts plate' }, fact(words.t('BIND_QR.domain'), domain(request.link.domain), 'mono')),
      request?.await_till && countdown(link, request.await_till, words.t('BIND_QR.left'), words.t('BIND_QR.late')),
    ],
    act: [code ? h('div', { class: 'code' }, qrCode(code, words.t('BIND_QR.alt'))) : h('p', { class: 'notice' }, words.t('BIND_QR.missing')), keep(app, 'buttons', [Boolean(wanted), session.busy], () => h('div', { class: 'buttons row' }, choices()))],
  };
}

function waiting(app) {
  const { words, docs, link } = app;
  const { session, cooldown } = docs;
  const keys = session.state === 'DONE' ? ['DONE.again', 'DONE.again.over'] : [`${session.state}.again`, `${session.state}.over`];
  return plain(app, cooldown ? [countdown(link, cooldown.until, ...keys.map((key) => words.t(key)))] : [], [], cooldown ? spokenLeft(app, cooldown.until, ...keys) : []);
}

function receipt(app) {
  const { words, docs } = app;
  const { rows, qr } = docs.session.receipt;
  const value = (r) => (r.text ? words.t(r.text) : r.time ? words.dateTime(r.time) : r.value);
  const spoken = rows.filter((r) => r.text).flatMap((r) => [{ key: r.label }, { key: r.text }]);
  return {
    shape: 'scan',
    say: [...spoken, ...spokenNumber(app)],
    stage: [medal(app), title(app), lines(app)],
    act: [
      h('div', { class: 'receipt' }, h('dl', { class: 'facts' }, rows.map((r) => fact(words.t(r.label), value(r), r.value ? 'mono' : 'whole'))), qr && qrCode(qr, words.t('RECEIPT.alt'))),
      buttons(app),
    ],
  };
}

const goodbye = (app) => ({ shape: 'open alone', stage: [h('div', { class: 'welcome' }, medal(app), title(app), lines(app))], act: [] });

function outOfService(app) {
  const { health } = app.docs;
  const hint = health?.hint && h('p', { class: 'hint' }, h('strong', {}, app.words.t('OUT_OF_SERVICE.staff')), health.hint);
  return { stage: told(app), act: [facts(app), hint] };
}

const builders = {
  ATTRACT: attract,
  GOODBYE: goodbye,
  OUT_OF_SERVICE: outOfService,
  HOME: home,
  IDENT: ident,
  VERIFY: (app) => (app.docs.session.entry ? staffCode(app) : plain(app)),
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
  ...operatorViews,
};
