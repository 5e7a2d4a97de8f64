// The services that tasks call: may they be called, what waits, and who decides.

import { ask as request, may, read } from './api.js';
import { ask } from './dialog.js';
import { h } from './dom.js';
import { reading, table, trouble } from './parts.js';
import { hashOf } from './route.js';
import { count, duration, foreign, moment, some } from './text.js';

const EVERY = 2000;
const HOLD = 'task:';
const SHUT_BY = {
  failures: 'too many calls failed',
  person: 'by a person',
  refused: 'it refuses our key or credit',
};

// A state has a word, a colour and a shape of its own; any of them is enough.
const LOOKS = {
  closed: ['healthy', 'M6 1a5 5 0 1 0 0 10A5 5 0 1 0 6 1z'],
  tapped: ['warn', 'M1 11 6 1 11 11z'],
  'half-open': ['warn', 'M6 1a5 5 0 1 0 0 10zM7.5 1.3v1.6a3.5 3.5 0 0 1 0 6.2v1.6a5 5 0 0 0 0-9.4z'],
  open: ['failed', 'M1 1h10v10H1z'],
};

export function upstreams(route, app) {
  const list = reading((signal) => read('api/v1/upstreams/', {}, signal), app);
  let passed = 0;
  const timer = setInterval(() => {
    if (document.hidden) return;
    passed += 1000;
    // A time to wait for counts down each second; the state is read more rarely.
    if (passed % EVERY === 0 && !list.loading) list.again();
    else app.render();
  }, 1000);
  return {
    title: 'Upstreams',
    render: () => [
      list.error && trouble(list.error, list.again),
      list.data && shown(list, app),
      list.loading && !list.data && h('p', { class: 'muted' }, 'Reading \u2026'),
      may('operate') && list.data && h('p', null, h('button', {
        type: 'button', 'aria-disabled': app.busy && 'true', onclick: () => hold(list, app),
      }, 'Hold back tasks of a name \u2026')),
    ],
    stop: () => {
      clearInterval(timer);
      list.stop();
    },
  };
}

function shown(list, app) {
  const found = list.data.upstreams.filter((each) => !isOver(each));
  const parked = app.status?.queues.parked ?? 0;
  if (found.length === 0) {
    return h('p', { class: 'box' }, 'No worker has made an upstream known. A task names the service that it calls with ', h('code', null, '@task(upstream=\u2026)'), '.');
  }
  const columns = [['Upstream', 'name'], ['State', 'name'], ['Calls', 'roomy'], ['Limits', 'roomy'], ['Parked', 'number'], ['Actions']];
  return [
    h('p', { class: 'muted' },
      parked > 0
        ? [h('a', { href: hashOf(['tasks'], { place: 'parked' }) }, `${some(parked, 'task')} parked`), ': pending, no attempt used. ']
        : 'Nothing is parked. ',
      'Read every 2 s.'),
    table('Upstreams', columns, found.map((item) => h('tr', { key: item.name },
      h('th', { scope: 'row' }, foreign(title(item), 140)),
      h('td', null, state(item, app.now())),
      h('td', { class: 'roomy' }, item.calls > 0
        ? [`${count(item.failures)} of ${count(item.calls)} failed`, item.failure_rate && h('div', { class: 'muted' }, `opens at ${Math.round(item.failure_rate * 100)} % of ${count(item.min_calls)} or more`)]
        : h('span', { class: 'muted' }, 'none lately')),
      h('td', { class: 'roomy' }, limits(item)),
      h('td', { class: 'number' }, count(total(item)), item.parked.retry > 0 && h('div', { class: 'muted' }, `${count(item.parked.retry)} to retry`)),
      h('td', null, actions(item, list, app))))),
  ];
}

/** Whether it held back tasks of a name, and holds back nothing any more. */
function isOver(item) {
  return item.name.startsWith(HOLD) && item.state === 'closed' && total(item) === 0;
}

function total(item) {
  return Object.values(item.parked).reduce((sum, each) => sum + each, 0);
}

function title(item) {
  return item.name.startsWith(HOLD) ? `tasks named ${item.name.slice(HOLD.length)}` : item.name;
}

function state(item, now) {
  const word = item.state === 'closed' && item.tapped_until ? 'tapped' : item.state;
  const [kind, shape] = LOOKS[word];
  return [
    h('span', { class: `badge ${kind}` },
      h('svg', { class: 'shape', viewBox: '0 0 12 12', 'aria-hidden': 'true' }, h('path', { d: shape })), word),
    ' ', h('span', { class: 'muted' }, meaning(word, item)),
    item.state === 'open' && h('div', null, item.retry_at ? ['tried again ', until(item.retry_at, now)] : 'until a person closes it'),
    item.tapped_until && h('div', null, 'not to be called; goes on ', until(item.tapped_until, now)),
    (item.reason || item.tap_reason) && h('div', null, foreign(item.reason || item.tap_reason, 300)),
    item.since && h('div', { class: 'muted roomy' }, 'since ', moment(item.since, now)),
  ];
}

function meaning(word, item) {
  if (word === 'closed') return 'calls begin';
  if (word === 'tapped') return 'it asked us to wait';
  if (word === 'half-open') return `${some(item.probes, 'call')} trying`;
  return SHUT_BY[item.shut_by] ?? 'no call begins';
}

function until(text, now) {
  const left = (Date.parse(text) - now) / 1000;
  return h('time', { datetime: text }, left > 0 ? `in ${duration(left)}` : 'now');
}

function limits(item) {
  const lines = [
    (item.concurrency || item.running > 0) && `${count(item.running)}${item.concurrency ? ` of ${count(item.concurrency)}` : ''} running`,
    item.limit && `${count(item.limit)} per ${duration(item.per)}`,
    item.limit && h('span', { class: 'muted' }, `${count(Math.floor(item.tokens))} of ${count(item.burst)} at once left`),
  ].filter(Boolean);
  return lines.length ? lines.map((line) => h('div', null, line)) : h('span', { class: 'muted' }, 'none');
}

function actions(item, list, app) {
  if (!may('operate')) return h('span', { class: 'muted' }, '\u2013');
  const what = title(item);
  const button = (word, onclick) => h('button', {
    key: word, type: 'button', 'aria-disabled': app.busy && 'true', 'aria-label': `${word} ${what}`, onclick,
  }, `${word} \u2026`);
  const isShut = item.state !== 'closed' || item.tapped_until;
  return h('span', { class: 'buttons' },
    isShut
      ? button('Close', () => confirmed('close', item, list, app))
      : button('Open', () => open(item.name, what, list, app)),
    button('Reset', () => confirmed('reset', item, list, app)));
}

const OPENING = [
  { name: 'reason', label: 'Reason', type: 'text', maxlength: 500, hint: 'Shown wherever it stands.' },
  { name: 'minutes', label: 'For how many minutes', type: 'number', min: '0.05', max: '500000', step: 'any', hint: 'Empty: until it is closed.' },
];

async function open(name, what, list, app) {
  const answer = await ask({
    title: `Open ${what}?`,
    go: 'Open it',
    danger: true,
    says: [h('p', null, 'Nothing calls it then, in the whole fleet. Its tasks wait, parked, and use no attempt; what runs goes on.')],
    inputs: OPENING,
  });
  if (answer) await steer(name, 'open', opened(answer), list, app, `${what} is open: nothing calls it.`);
}

async function hold(list, app) {
  const answer = await ask({
    title: 'Hold back tasks of a name?',
    go: 'Hold them back',
    danger: true,
    says: [h('p', null, 'No worker begins one of them; they wait, parked, and use no attempt. What runs goes on.')],
    inputs: [{ name: 'task', label: 'Name of the tasks', type: 'text', required: true, maxlength: 128, pattern: '[A-Za-z0-9_.\\-]+' }, ...OPENING],
  });
  if (answer) await steer(HOLD + answer.task, 'open', opened(answer), list, app, `Tasks named ${answer.task} are held back.`);
}

function opened({ reason, minutes }) {
  const seconds = Number.parseFloat(minutes) * 60;
  return seconds > 0 ? { reason, expires: seconds } : { reason };
}

async function confirmed(verb, item, list, app) {
  const what = title(item);
  const isReset = verb === 'reset';
  const answer = await ask({
    title: `${isReset ? 'Reset' : 'Close'} ${what}?`,
    go: isReset ? 'Reset it' : 'Close it',
    says: [h('p', null, isReset
      ? 'It may be called again, and what was counted is forgotten: failed calls, used rate, running calls.'
      : 'It may be called again. What is parked comes back slowly at first.')],
  });
  if (answer) await steer(item.name, verb, undefined, list, app, `${what} ${isReset ? 'is as new' : 'may be called again'}.`);
}

async function steer(name, verb, body, list, app, says) {
  const path = `api/v1/upstreams/${encodeURIComponent(name)}/${verb}`;
  const done = await app.act(() => request('POST', path, body), () => says);
  if (done) list.again();
}
