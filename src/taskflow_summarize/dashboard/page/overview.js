// The first view: the way of a task, the lanes, and what asks for a person.

import { ask as request, may } from './api.js';
import { h } from './dom.js';
import { flow } from './flow.js';
import { count, duration, percent, some } from './text.js';

export function overview(route, app) {
  return {
    title: 'Overview',
    render: () => {
      const { status } = app;
      if (!status) return h('p', { class: 'muted' }, 'Waiting for the first figures \u2026');
      return [attention(status), h('section', { 'aria-label': 'Flow', class: 'card' }, flow(status)), lanes(status, app)];
    },
    stop() {},
  };
}

function attention(status) {
  const lines = [
    ...status.paused.map((lane) => `The ${lane} lane is paused: no worker claims from it.`),
    status.suspects > 0 && `${some(status.suspects, 'suspect')}: workers died while they ran them; they run one at a time.`,
  ].filter(Boolean);
  return lines.length > 0
    && h('ul', { class: 'box warn', 'aria-label': 'Needs attention' }, lines.map((line) => h('li', null, line)));
}

function lanes(status, app) {
  const served = status.served.primary + status.served.retry;
  const rows = [
    ['primary', 1 - status.retry_ratio, status.served_ratio === null ? null : 1 - status.served_ratio],
    ['retry', status.retry_ratio, status.served_ratio],
  ];
  return h('section', null,
    h('h2', { id: 'lanes' }, 'Lanes'),
    h('p', { class: 'muted' },
      'While tasks wait in both lanes, workers keep to the target. ',
      served ? `In the last minute ${some(served, 'task')} were handed out.` : 'In the last minute no task was handed out.'),
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-labelledby': 'lanes' },
      h('table', null,
        h('thead', null, h('tr', null,
          h('th', { scope: 'col' }, 'Lane'),
          h('th', { scope: 'col', class: 'number' }, 'Waiting'),
          h('th', { scope: 'col', class: 'number roomy' }, 'Oldest'),
          h('th', { scope: 'col', class: 'number' }, 'Target'),
          h('th', { scope: 'col' }, 'Served, last minute'),
          h('th', { scope: 'col' }, 'Claims'))),
        h('tbody', null,
          rows.map((row) => lane(status, app, ...row)),
          h('tr', { key: 'parked', class: 'lane' },
            h('th', { scope: 'row' }, 'parked'),
            h('td', { class: 'number' }, count(status.queues.parked)),
            h('td', { class: 'number roomy' }, '\u2013'),
            h('td', { class: 'number' }, '\u2013'),
            h('td', { colspan: 2 }, 'wait for an upstream, of both lanes', app.parts.upstreams && [': ', h('a', { href: '#/upstreams' }, 'how they stand')]))))));
}

function lane(status, app, name, target, share) {
  const isPaused = status.paused.includes(name);
  const word = isPaused ? 'resume' : 'pause';
  const change = () => app.act(
    () => request('POST', `api/v1/queues/${name}/${word}`),
    () => `The ${name} lane is ${isPaused ? 'open again' : 'paused'}.`,
  );
  return h('tr', { key: name, class: 'lane' },
    h('th', { scope: 'row' }, name),
    h('td', { class: 'number' }, count(status.queues[name])),
    h('td', { class: 'number roomy' }, duration(status.oldest_age[name])),
    h('td', { class: 'number' }, percent(target)),
    h('td', { class: 'served' }, bar(target, share), ` ${percent(share)} `, h('span', { class: 'muted' }, `(${count(status.served[name])})`)),
    h('td', { class: 'claims' },
      h('span', { class: isPaused ? 'badge paused' : 'badge open' }, isPaused ? 'paused' : 'open'), ' ',
      may('admin') && h('button', { type: 'button', 'aria-disabled': app.busy && 'true', onclick: change, 'aria-label': `${isPaused ? 'Resume' : 'Pause'} the ${name} lane` }, isPaused ? 'Resume' : 'Pause')));
}

function bar(target, share) {
  const width = 96;
  return h('svg', { class: 'bar', viewBox: `0 0 ${width} 12`, 'aria-hidden': 'true' },
    h('rect', { class: 'track', width, height: 12, rx: 3 }),
    share !== null && h('rect', { class: 'fill', width: Math.max(0, share * width), height: 12, rx: 3 }),
    h('rect', { class: 'target', x: Math.min(width - 2, target * width), width: 2, height: 12 }));
}
