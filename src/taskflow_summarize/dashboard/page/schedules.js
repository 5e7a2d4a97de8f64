// What runs by itself: when next, when last, hold it back, run it now.

import { ask as request, may, read } from './api.js';
import { h } from './dom.js';
import { reading, table, trouble } from './parts.js';
import { hashOf } from './route.js';
import { foreign, moment } from './text.js';

const LATE = 60000; // ms past a tick after which nobody seems to serve it

export function schedules(route, app) {
  const list = reading((signal) => read('api/v1/schedules/', {}, signal), app);
  return {
    title: 'Schedules',
    render: () => [
      list.error && trouble(list.error, list.again),
      list.data && shown(list, app),
      list.loading && !list.data && h('p', { class: 'muted' }, 'Reading \u2026'),
    ],
    stop: list.stop,
  };
}

function shown(list, app) {
  const found = list.data.schedules;
  if (found.length === 0) {
    return h('p', { class: 'box' }, 'No worker has made a schedule known.');
  }
  const columns = [['Schedule', 'name'], ['When'], ['Next'], ['Last', 'roomy'], ['Actions']];
  return [
    h('p', null, h('button', { type: 'button', onclick: list.again }, 'Read again')),
    table('Schedules', columns, found.map((item) => h('tr', { key: item.name },
      h('th', { scope: 'row' }, foreign(item.name, 80),
        item.task !== item.name && h('div', { class: 'muted' }, foreign(item.task, 80))),
      h('td', null, foreign(item.when, 120), h('div', { class: 'muted' }, 'missed: ', foreign(item.missed, 40))),
      h('td', null, next(item, app.now())),
      h('td', { class: 'roomy' }, item.last_task_id
        ? h('a', { href: hashOf(['tasks', item.last_task_id]) }, moment(item.last_at, app.now()))
        : moment(item.last_at, app.now())),
      h('td', null, actions(item, list, app))))),
  ];
}

function next(item, now) {
  if (item.paused_at) {
    return [h('span', { class: 'badge paused' }, 'paused'), ' ', moment(item.paused_at, now)];
  }
  const isLate = now - Date.parse(item.next_at) > LATE;
  return [moment(item.next_at, now),
    isLate && h('div', null, h('span', { class: 'badge warn' }, 'late'), ' no worker serves it')];
}

function actions(item, list, app) {
  const path = `api/v1/schedules/${encodeURIComponent(item.name)}`;
  const act = (verb, says) => app.act(() => request('POST', `${path}/${verb}`), says).then((done) => done && list.again());
  const button = (verb, word, says) => h('button', {
    key: verb, type: 'button', 'aria-disabled': app.busy && 'true', 'aria-label': `${word} ${item.name}`, onclick: () => act(verb, says),
  }, word);
  return h('span', { class: 'buttons' },
    may('operate') && button('run', 'Run now', () => `A task of ${item.name} was enqueued.`),
    may('admin') && (item.paused_at
      ? button('resume', 'Resume', () => `${item.name} goes on with its next tick.`)
      : button('pause', 'Pause', () => `${item.name} is paused.`)));
}
