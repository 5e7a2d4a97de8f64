// One task whole, followed while it goes on, and what may be done with it.

import { ask as request, may, read } from './api.js';
import { ask } from './dialog.js';
import { h } from './dom.js';
import { reading, table, trouble } from './parts.js';
import { go, hashOf } from './route.js';
import { follow } from './stream.js';
import { badge, count, cut, duration, exact, foreign, moment, visible } from './text.js';

const SHORT = 20000;
const MOST = 100000; // 400,000 took a browser up to 8 s to lay out
const BACK = ['DLQ', 'FAILED', 'CANCELLED', 'SCHEDULED'];
const STOPPABLE = ['PENDING', 'SCHEDULED', 'ACTIVE'];

export function task(route, app) {
  const id = route.parts[1];
  const path = `api/v1/tasks/${encodeURIComponent(id)}`;
  const open = { names: new Set(), texts: new Map() };
  let output = '';
  let stream = null;
  let last = '';
  const whole = reading((signal) => read(path, {}, signal), app);

  function news(name, data) {
    if (name === 'chunk') output = (output + String(data.text)).slice(-SHORT);
    if (name === 'state' && whole.data) {
      const now = `${data.state} ${data.attempts}`;
      whole.data = { ...whole.data, state: data.state, attempts: data.attempts, progress: data.progress };
      if (last && last !== now) whole.again();
      last = now;
    }
    if (name === 'end') {
      stream?.stop();
      stream = null;
      whole.again();
    }
    app.render();
  }

  function start() {
    const live = whole.data && ['PENDING', 'ACTIVE', 'SCHEDULED'].includes(whole.data.state);
    if (live && !stream) {
      last = '';
      stream = follow(`${path}/events`, { event: news, refused: (error) => error.status === 429 });
    }
  }

  return {
    title: 'Task',
    render: () => {
      start();
      return [
        whole.error && trouble(
          whole.error.status === 404 ? { message: `There is no task ${id}; it was deleted, or kept for as long as results are.` } : whole.error,
          whole.again,
        ),
        whole.data && !(whole.error?.status === 404) && shown(whole, { path, output, open, app }),
        whole.loading && !whole.data && h('p', { class: 'muted' }, 'Reading \u2026'),
      ];
    },
    stop: () => {
      whole.stop();
      stream?.stop();
    },
  };
}

function shown(whole, { path, output, open, app }) {
  const item = whole.data;
  const letter = item.dead_letter;
  return [
    h('p', { class: 'headline' }, badge(item.state), ' ', h('strong', null, foreign(item.name || '(no name)', 128)), ' ',
      h('span', { class: 'id' }, foreign(item.task_id, 64))),
    item.parked_for && h('p', { class: 'box warn', key: 'parked' }, 'It is parked until ',
      item.parked_for.startsWith('task:') ? 'tasks of its name are let go on' : [foreign(item.parked_for, 128), ' may be called'], '. ',
      app.parts.upstreams && h('a', { href: '#/upstreams' }, 'How the upstreams stand')),
    item.cancel_requested && h('p', { class: 'box warn' }, 'It was asked to stop.'),
    actions(whole, path, app),
    item.progress && progress(item.progress),
    h('div', { class: 'columns' },
      h('section', null, h('h2', null, 'Facts'), facts(item, app.now())),
      h('section', null, h('h2', null, 'Timeline'), timeline(item.timeline))),
    letter && part('Dead letter', [
      h('p', null, `${visible(letter.cause)}: `, h('strong', null, foreign(letter.error_type, 200)), ' ',
        foreign(letter.error_message, 2000), ' ',
        h('a', { href: hashOf(['dead-letters'], { fingerprint: letter.fingerprint }) }, 'others of its group')),
      letter.traceback && text('Traceback', letter.traceback, open, app),
    ]),
    !letter && item.error_type && part('Last error', h('p', null, h('strong', null, foreign(item.error_type, 200)), ' ', foreign(item.error_message, 2000))),
    output && part('Output', text('Output', output, open, app)),
    part('Arguments', item.arguments === null
      ? h('p', { class: 'muted' }, 'They cannot be shown.')
      : text('Arguments', item.arguments, open, app)),
    item.result !== null && part('Result', text('Result', item.result, open, app)),
    filled(item.usage) && part('Usage', text('Usage', item.usage, open, app)),
    filled(item.annotations) && part('Annotations', text('Annotations', item.annotations, open, app)),
  ];
}

function part(title, content) {
  return h('section', { key: title }, h('h2', null, title), content);
}

function filled(value) {
  return value && Object.keys(value).length > 0;
}

function text(name, value, open, app) {
  const isOpen = open.names.has(name);
  const most = isOpen ? MOST : SHORT;
  const { says, length } = written(name, value, most, open.texts);
  const more = () => {
    open.names.add(name);
    app.render();
  };
  return [
    h('pre', { tabindex: 0, dir: 'auto', 'aria-label': name }, says),
    length > most && h('p', { class: 'muted' }, `The first ${count(most)} of ${count(length)} characters. `,
      !isOpen && h('button', { type: 'button', onclick: more }, 'Show more')),
  ];
}

/** Write a value as text; what may be a megabyte is not written anew every second. */
function written(name, value, most, texts) {
  const known = texts.get(name);
  if (known && known.value === value && known.most === most) return known;
  const whole = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
  const made = { value, most, says: visible(cut(whole, most)), length: whole.length };
  texts.set(name, made);
  return made;
}

function progress({ done, total, message }) {
  const known = typeof done === 'number' && typeof total === 'number' && total > 0;
  return h('p', { class: 'progress' },
    h('progress', known ? { value: Math.min(done, total), max: total, 'aria-label': 'Progress' } : { 'aria-label': 'Progress' }),
    known ? ` ${count(done)} of ${count(total)} ` : ` ${count(done)} `,
    message && foreign(message, 200));
}

function facts(item, now) {
  const rows = [
    ['Lane', item.lane],
    ['Attempts', item.max_retries === null ? count(item.attempts) : `${count(item.attempts)} of at most ${count(item.max_retries + 1)}`],
    ['Deliveries', count(item.deliveries)],
    ['Crashes', item.crashes ? count(item.crashes) : ''],
    ['Created', moment(item.created_at, now)],
    ['Due', item.due_at && moment(item.due_at, now)],
    ['Started', item.started_at && moment(item.started_at, now)],
    ['Ended', item.finished_at && moment(item.finished_at, now)],
    ['Expires', item.expires_at && moment(item.expires_at, now)],
    ['Lease until', item.lease_until && moment(item.lease_until, now)],
    ['Timeout', item.timeout === null ? '' : duration(item.timeout)],
    ['Worker', item.worker && foreign(item.worker, 100)],
    ['Key', item.key && foreign(item.key, 200)],
  ];
  return h('dl', null, rows.filter(([, value]) => value).map(([name, value]) => [
    h('dt', { key: `t ${name}` }, name), h('dd', { key: `d ${name}` }, value)]));
}

function timeline(entries) {
  const day = (at) => exact(at).slice(0, 10);
  return table('Timeline', [['When'], ['What'], ['Details', 'long']], entries.map((entry, index) => h('tr', null,
    h('td', { class: 'short' },
      index > 0 && day(entry.at) === day(entries[index - 1].at) ? null : h('div', { class: 'muted' }, day(entry.at)),
      h('time', { datetime: entry.at, title: exact(entry.at) }, exact(entry.at).slice(11, 23))),
    h('td', { class: 'short' }, foreign(entry.event, 60)),
    h('td', null, Object.entries(entry.facts).filter(([, value]) => value !== '' && value !== null)
      .map(([name, value]) => h('div', { class: 'clamp' }, foreign(name, 40), ': ',
        foreign(typeof value === 'string' ? value : JSON.stringify(value), 300)))))));
}

function actions(whole, path, app) {
  const item = whole.data;
  const isLetter = item.state === 'DLQ';
  const act = (call, says) => app.act(call, says).then((done) => done && whole.again());
  const retry = () => act(() => request('POST', `${path}/retry`), () => 'The task waits for a worker again.');
  const cancel = () => act(() => request('POST', `${path}/cancel`),
    (answer) => (answer.requested ? 'The task was asked to stop.' : 'The task is cancelled.'));
  const discard = async () => {
    const yes = await ask({
      title: 'Discard this dead letter?', go: 'Discard it', danger: true,
      says: [h('p', null, 'It becomes a failed task and is kept for as long as results are.')],
    });
    if (yes) act(() => request('POST', 'api/v1/queues/dlq/discard', { ids: [item.task_id] }), () => 'The dead letter is discarded.');
  };
  const remove = async () => {
    const runs = item.state === 'ACTIVE';
    const yes = await ask({
      title: 'Delete this task?', go: 'Delete it', danger: true,
      says: [h('p', null, 'The task and everything that belongs to it are gone for good.'),
        runs && h('p', null, 'It runs now: its worker will find that it is gone, and its result is lost.')].filter(Boolean),
    });
    if (!yes) return;
    const gone = await app.act(() => request('DELETE', path, undefined, runs ? { force: 'true' } : {}), () => 'The task is deleted.');
    if (gone) go(['tasks']);
  };
  const buttons = [
    may('operate') && BACK.includes(item.state) && ['Retry', item.state === 'SCHEDULED' ? 'Run now' : 'Retry', retry, 'primary'],
    may('operate') && STOPPABLE.includes(item.state) && !item.cancel_requested && ['Cancel', 'Cancel task', cancel, ''],
    may('admin') && isLetter && ['Discard', 'Discard \u2026', discard, 'danger'],
    may('admin') && ['Delete', 'Delete \u2026', remove, 'danger'],
  ].filter(Boolean);
  return buttons.length > 0 && h('div', { class: 'buttons', role: 'group', 'aria-label': 'Actions' },
    buttons.map(([name, word, onclick, kind]) => h('button', { key: name, type: 'button', class: kind, onclick, 'aria-disabled': app.busy && 'true' }, word)));
}
