// The way of a task as a picture: every place with its count, each a link to its list.

import { h } from './dom.js';
import { count, duration } from './text.js';

const narrow = matchMedia('(max-width: 60rem)');

/** Call *listener* when the picture has to be drawn in its other form. */
export function onShape(listener) {
  narrow.addEventListener('change', listener);
}

// Places: left, top, width in the wide and in the narrow picture.
const PLACES = {
  submit: { wide: [10, 20, 130], narrow: [4, 4, 160], small: true },
  scheduled: { wide: [470, 230, 180], narrow: [180, 4, 160] },
  primary: { wide: [220, 20, 180], narrow: [4, 112, 160] },
  retry: { wide: [220, 125, 180], narrow: [180, 112, 160] },
  active: { wide: [470, 72, 180], narrow: [92, 220, 160] },
  completed: { wide: [760, 8, 190], narrow: [4, 328, 150] },
  dlq: { wide: [760, 87, 190], narrow: [190, 328, 150] },
  failed: { wide: [760, 166, 190], narrow: [4, 414, 150] },
  cancelled: { wide: [760, 245, 190], narrow: [190, 414, 150] },
};
const HEIGHT = 70;

// Arrows: a path for each picture, and a word where the arrow does not say it.
const ARROWS = [
  { wide: 'M140 55H214', narrow: 'M84 74V106' },
  { wide: 'M75 90V284H464', narrow: 'M164 39H174', word: 'delayed', wideWord: [85, 277, 'start'], narrowWord: null },
  { wide: 'M400 55H435V95H464', narrow: 'M84 182V201H140V214' },
  { wide: 'M400 160H435V119H464', narrow: 'M260 182V201H204V214' },
  {
    wide: 'M560 142V224', narrow: 'M252 255H350V39H346',
    word: 'attempt failed', wideWord: [570, 188, 'start'], narrowWord: [346, 272, 'end'],
  },
  {
    wide: 'M470 265H310V201', narrow: 'M260 74V106',
    word: 'due again', wideWord: [322, 257, 'start'], narrowWord: [270, 94, 'start'],
  },
  { wide: 'M650 107H705V43H754', narrow: 'M172 290V363H160' },
  { wide: 'M705 107V122H754', narrow: 'M172 363H184' },
  { wide: 'M705 122V201H754', narrow: 'M172 363V449H160' },
  { wide: 'M705 201V280H754', narrow: 'M172 449H184' },
];

function places(status) {
  const { queues = {}, states = {}, oldest_age: oldest = {}, paused = [] } = status ?? {};
  const since = (lane) => {
    if (paused.includes(lane)) return 'paused';
    return typeof oldest[lane] === 'number' ? `oldest ${duration(oldest[lane])}` : 'nothing waits';
  };
  return [
    ['submit', 'Submit', null, 'new tasks', '#/tasks'],
    ['primary', 'Primary lane', queues.primary, since('primary'), '#/tasks?status=PENDING&lane=primary'],
    ['retry', 'Retry lane', queues.retry, since('retry'), '#/tasks?status=PENDING&lane=retry'],
    ['scheduled', 'Scheduled', queues.scheduled, 'wait for their time', '#/tasks?status=SCHEDULED'],
    ['active', 'Active', states.ACTIVE, 'leased to a worker', '#/tasks?status=ACTIVE'],
    ['completed', 'Completed', states.COMPLETED, 'have a result', '#/tasks?status=COMPLETED'],
    ['dlq', 'Dead letters', states.DLQ, 'wait for a person', '#/dead-letters'],
    ['failed', 'Failed', states.FAILED, 'no dead letter', '#/tasks?status=FAILED'],
    ['cancelled', 'Cancelled', states.CANCELLED, 'on request', '#/tasks?status=CANCELLED'],
  ];
}

/** Describe the picture. */
export function flow(status) {
  const form = narrow.matches ? 'narrow' : 'wide';
  const box = form === 'wide' ? '0 0 960 325' : '0 0 354 492';
  return h('svg', { key: form, class: `flow ${form}`, viewBox: box, role: 'group', 'aria-label': 'The way of a task, with how many stand where' },
    h('defs', null,
      h('marker', { id: 'head', viewBox: '0 0 8 8', refX: '4.2', refY: '4', markerWidth: '7', markerHeight: '7', orient: 'auto-start-reverse' },
        h('path', { class: 'head', d: 'M0 0 8 4 0 8z' }))),
    ARROWS.map((arrow) => h('path', { class: 'arrow', d: arrow[form], 'marker-end': 'url(#head)' })),
    ARROWS.filter((arrow) => arrow[`${form}Word`]).map((arrow) => {
      const [x, y, anchor] = arrow[`${form}Word`];
      return h('text', { class: 'word', x, y, 'text-anchor': anchor }, arrow.word);
    }),
    places(status).map((place) => node(form, ...place)));
}

function node(form, name, title, value, hint, href) {
  const [x, y, width] = PLACES[name][form];
  const shown = value === null ? '' : count(value);
  const label = value === null ? `${title}: ${hint}` : `${title}: ${shown}, ${hint}`;
  return h('a', { key: name, href, class: `place ${name}`, 'aria-label': label },
    h('rect', { x, y, width, height: HEIGHT, rx: 8 }),
    h('rect', { class: 'mark', x, y: y + 8, width: 4, height: HEIGHT - 16 }),
    h('text', { class: 'title', x: x + 14, y: y + 22 }, title),
    value !== null && h('text', { class: 'count', x: x + 14, y: y + 45 }, shown),
    h('text', { class: 'hint', x: x + 14, y: y + (value === null ? 45 : 61) }, hint));
}
