// Rare events and who did what, the newest first.

import { read } from './api.js';
import { h } from './dom.js';
import { pager, reading, table, trouble } from './parts.js';
import { go, hashOf } from './route.js';
import { foreign, moment } from './text.js';

export function audit(route, app) {
  const cursor = route.query.get('cursor') ?? '';
  const list = reading((signal) => read('api/v1/audit-log/', { cursor, limit: 50 }, signal), app);
  return {
    title: 'Audit log',
    render: () => [
      h('p', { class: 'muted' }, 'About the last 1,000 events are kept.'),
      list.error && trouble(list.error, list.again),
      list.data && entries(list.data, cursor, app),
      list.loading && !list.data && h('p', { class: 'muted' }, 'Reading \u2026'),
    ],
    stop: list.stop,
  };
}

function entries(page, cursor, app) {
  const items = page.items;
  return [
    items.length === 0
      ? h('p', { class: 'box' }, 'Nothing rare has happened.')
      : table('Audit log', [['When'], ['Event'], ['Who'], ['Details', 'long']], items.map((item) => h('tr', { key: item.id },
        h('td', null, moment(item.at, app.now())),
        h('td', { class: 'short' }, foreign(item.event, 60)),
        h('td', null, item.actor ? foreign(item.actor, 80) : h('span', { class: 'muted' }, '\u2013')),
        h('td', null, Object.entries(item.facts).map(([name, value]) => fact(name, value)))))),
    pager({
      cursor,
      next: page.next_cursor,
      onFirst: () => go(['audit-log']),
      onNext: () => go(['audit-log'], { cursor: page.next_cursor }),
      shown: items.length,
    }),
  ];
}

function fact(name, value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const says = foreign(text, 200);
  return h('div', null, foreign(name, 40), ': ',
    (name === 'task_id' || name === 'id') && text ? h('a', { href: hashOf(['tasks', text]) }, says) : says);
}
