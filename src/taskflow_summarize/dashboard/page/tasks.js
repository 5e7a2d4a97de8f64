// The list of tasks: filters, pages, and a way to each task.

import { read } from './api.js';
import { h } from './dom.js';
import { pager, reading, stale, table, trouble } from './parts.js';
import { go, hashOf } from './route.js';
import { badge, foreign, moment } from './text.js';

const STATES = ['PENDING', 'ACTIVE', 'SCHEDULED', 'COMPLETED', 'DLQ', 'FAILED', 'CANCELLED'];
const FILTERS = ['status', 'lane', 'name', 'error'];

export function tasks(route, app) {
  const chosen = Object.fromEntries(FILTERS.map((name) => [name, route.query.get(name) ?? '']));
  const cursor = route.query.get('cursor') ?? '';
  const isParked = route.query.get('place') === 'parked';
  const path = isParked ? 'api/v1/queues/parked/tasks' : 'api/v1/tasks/';
  const query = isParked ? { cursor, limit: 50 } : { ...chosen, cursor, limit: 50 };
  const list = reading((signal) => read(path, query, signal), app);
  if (isParked) chosen.place = 'parked';
  return {
    title: isParked ? 'Tasks: parked' : chosen.status ? `Tasks: ${chosen.status}` : 'Tasks',
    render: () => [
      isParked
        ? h('p', null, 'These wait for an upstream. ', h('a', { href: '#/upstreams' }, 'How the upstreams stand'), ' \u00b7 ', h('a', { href: '#/tasks' }, 'All tasks'))
        : filters(chosen),
      list.error && trouble(list.error, list.again),
      stale(list, app),
      list.data && shown(list.data, chosen, cursor, app),
      list.loading && !list.data && h('p', { class: 'muted' }, 'Reading \u2026'),
    ],
    stop: list.stop,
  };
}

function filters(chosen) {
  const submit = (event) => {
    event.preventDefault();
    const values = Object.fromEntries(
      FILTERS.map((name) => [name, event.target.elements.namedItem(name).value.trim()]),
    );
    go(['tasks'], values);
  };
  return h('form', { class: 'filters', role: 'search', 'aria-label': 'Which tasks', onsubmit: submit },
    select('status', 'State', chosen.status, ['', ...STATES]),
    select('lane', 'Lane', chosen.lane, ['', 'primary', 'retry']),
    field('name', 'Task', chosen.name, 128),
    field('error', 'Error contains', chosen.error, 200),
    h('div', { class: 'buttons' },
      h('button', { type: 'submit', class: 'primary' }, 'Show'),
      h('button', { type: 'button', onclick: () => go(['tasks']) }, 'Clear')));
}

function select(name, label, value, options) {
  return h('p', { class: 'field' },
    h('label', { for: `filter-${name}` }, label),
    h('select', { id: `filter-${name}`, name, value },
      options.map((option) => h('option', { value: option }, option || 'any'))));
}

function field(name, label, value, longest) {
  return h('p', { class: 'field' },
    h('label', { for: `filter-${name}` }, label),
    h('input', { id: `filter-${name}`, name, value, maxlength: longest, type: 'text', spellcheck: 'false', autocomplete: 'off' }));
}

function shown(page, chosen, cursor, app) {
  const on = { ...chosen, cursor: page.next_cursor };
  return [
    page.items.length
      ? taskTable(page.items, app)
      : h('p', { class: 'box' }, page.next_cursor
        ? 'None among the tasks looked at so far; the next page goes on.'
        : 'No task is like this.'),
    pager({
      cursor,
      next: page.next_cursor,
      onFirst: () => go(['tasks'], chosen),
      onNext: () => go(['tasks'], on),
      shown: page.items.length,
      examined: page.examined,
    }),
  ];
}

/** Describe a table of tasks; *actions* adds a last column. */
export function taskTable(items, app, actions) {
  const columns = [
    ['State', actions && 'roomy'], ['Task', 'name'], ['Attempts', 'number roomy'], ['Created', 'roomy'], ['Ended or due', 'roomy'], ['Error', 'long'],
    ...(actions ? [['Actions']] : []),
  ];
  return table('Tasks', columns, items.map((item) => h('tr', { key: item.task_id },
    h('td', { class: actions && 'roomy' }, badge(item.state), item.suspect && h('span', { class: 'badge warn' }, 'suspect')),
    h('td', null,
      h('a', { href: hashOf(['tasks', item.task_id]) }, foreign(item.name || '(no name)', 80)),
      h('div', { class: 'id roomy' }, foreign(item.task_id, 64))),
    h('td', { class: 'number roomy' }, item.attempts),
    h('td', { class: 'roomy' }, moment(item.created_at, app.now())),
    h('td', { class: 'roomy' }, moment(item.finished_at ?? item.due_at, app.now())),
    h('td', null, item.error_type && h('div', { class: 'clamp' },
      h('strong', null, foreign(item.error_type, 80)), ' ', foreign(item.error_message, 140))),
    actions && h('td', null, actions(item)))));
}
