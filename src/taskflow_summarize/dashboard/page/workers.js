// The workers: which are alive, and what each runs since when.

import { read } from './api.js';
import { h } from './dom.js';
import { reading, table, trouble } from './parts.js';
import { hashOf } from './route.js';
import { count, duration, foreign, moment, some, visible } from './text.js';

const EVERY = 5000;

export function workers(route, app) {
  const list = reading((signal) => read('health/workers/diagnostics', {}, signal), app);
  const timer = setInterval(() => {
    if (!document.hidden && !list.loading) list.again();
  }, EVERY);
  return {
    title: 'Workers',
    render: () => [
      list.error && trouble(list.error, list.again),
      list.data && shown(list.data.workers, app),
      list.loading && !list.data && h('p', { class: 'muted' }, 'Reading \u2026'),
    ],
    stop: () => {
      clearInterval(timer);
      list.stop();
    },
  };
}

function shown(found, app) {
  if (found.length === 0) {
    return h('p', { class: 'box warn' }, 'No worker was heard of within the last hour. Start one with ', h('code', null, 'taskflow worker'), '.');
  }
  const healthy = found.filter((worker) => worker.status === 'healthy').length;
  const columns = [['Worker', 'name'], ['Status'], ['Runs', 'name'], ['Slots', 'number'], ['Done', 'number'], ['Failed', 'number'], ['Last beat', 'roomy'], ['Asked for work', 'roomy']];
  return [
    h('p', { class: 'muted' }, `${healthy} of ${some(found.length, 'process', 'processes')} healthy; read every 5 s.`),
    table('Workers', columns, found.map((worker) => h('tr', { key: worker.id },
      h('th', { scope: 'row' }, foreign(worker.host, 60), ` ${worker.pid}`,
        h('div', { class: 'id' }, foreign(worker.id, 80)),
        h('div', { class: 'muted' }, visible([worker.kind, worker.executor, worker.version].filter(Boolean).join(' \u00b7 ')))),
      h('td', null, h('span', { class: `badge ${worker.status}` }, visible(worker.status))),
      h('td', null, running(worker)),
      h('td', { class: 'number' }, `${count(worker.running)} / ${count(worker.concurrency)}`),
      h('td', { class: 'number' }, count(worker.done)),
      h('td', { class: 'number' }, count(worker.failed)),
      h('td', { class: 'roomy' }, moment(worker.last_beat_at, app.now())),
      h('td', { class: 'roomy' }, worker.polled_ago === null ? '\u2013' : `${duration(worker.polled_ago)} ago`)))),
  ];
}

function running(worker) {
  const bodies = worker.running_tasks ?? [];
  if (bodies.length === 0) return h('span', { class: 'muted' }, 'nothing');
  return h('ul', { class: 'plain' }, bodies.slice(0, 20).map((body) => h('li', { key: body.id },
    h('a', { href: hashOf(['tasks', body.id]) }, foreign(body.name, 60)),
    ` for ${duration(body.seconds)}`, body.attempt > 1 ? `, attempt ${body.attempt}` : '')),
  bodies.length > 20 && h('li', null, `and ${count(bodies.length - 20)} more`));
}
