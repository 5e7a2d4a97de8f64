// The page: where it stands, what is shown, and the live figures above it.

import { ApiError, askLevel, key, may, onUnauthorized, read, session, useKey } from './api.js';
import { ask } from './dialog.js';
import { h, patch } from './dom.js';
import { onShape } from './flow.js';
import { audit } from './audit.js';
import { letters } from './letters.js';
import { overview } from './overview.js';
import { routeOf } from './route.js';
import { schedules } from './schedules.js';
import { follow } from './stream.js';
import { task } from './task.js';
import { tasks } from './tasks.js';
import { count, exact, foreign, visible } from './text.js';
import { upstreams } from './upstreams.js';
import { workers } from './workers.js';

const VIEWS = [
  { name: '', title: 'Overview', make: overview },
  { name: 'tasks', title: 'Tasks', make: (route, app) => (route.parts[1] ? task : tasks)(route, app) },
  { name: 'dead-letters', title: 'Dead letters', make: letters },
  { name: 'upstreams', title: 'Upstreams', make: upstreams, isThere: () => parts.upstreams },
  { name: 'workers', title: 'Workers', make: workers },
  { name: 'schedules', title: 'Schedules', make: schedules, isThere: () => parts.schedules },
  { name: 'audit-log', title: 'Audit log', make: audit },
];

const parts = { schedules: false, upstreams: false }; // an application may leave them out

const app = {
  parts,
  status: null, // the last figures, as the API has them
  changes: 0, // how often they moved
  busy: false, // something was asked for and is underway
  actedAt: 0, // when that was, last
  render,
  now,
  act,
};

let view = null;
let route = routeOf(location.hash);
let trouble = ''; // what is wrong with the connection
let said = { text: '', kind: '' }; // the outcome of what a person did
let offset = 0; // the server's clock less ours, ms
let stream = null;
let asking = false;
let due = 0;

/** Bring the page up to date, once per frame however often it is called. */
function render() {
  if (due) return;
  due = requestAnimationFrame(() => {
    due = 0;
    patch(document.getElementById('page'), whole());
  });
}

function now() {
  return Date.now() + offset;
}

/**
 * Do something a person asked for, say how it went, and keep the buttons still.
 * @param {function} call  returns a promise
 * @param {function} [says]  what to say about its answer
 * @returns {Promise<object|null>} the answer; null when it failed, which was said
 */
async function act(call, says) {
  if (app.busy) return null;
  app.busy = true;
  render();
  try {
    const answer = await call();
    if (says) {
      said = { text: says(answer), kind: 'good' };
      app.actedAt = Date.now();
      // What came back to work may have ended again, with the counts as they were.
      setTimeout(moveOn, 1500);
    }
    return answer;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    const why = error.status === 403 ? 'This is not allowed: ' : 'This could not be done: ';
    said = { text: why + error.message, kind: 'bad' };
    return null;
  } finally {
    app.busy = false;
    render();
  }
}

function moveOn() {
  app.changes += 1;
  render();
}

function whole() {
  return [
    h('a', { class: 'skip', href: '#main', onclick: skip }, 'Skip to the content'),
    h('header', { class: 'top' },
      h('p', { class: 'brand' }, 'taskflow'),
      h('nav', { 'aria-label': 'Views' }, h('ul', null, VIEWS.filter(({ isThere }) => isThere?.() ?? true).map(link))),
      h('p', { class: 'who' }, live(), may('read') && !may('admin') && session.why && h('span', { class: 'muted' }, ` ${visible(session.why)}`), key() && [
        session.actor && h('span', { class: 'muted' }, foreign(session.actor, 40), ` (${session.level})`), ' ',
        h('button', { type: 'button', onclick: forget }, 'Forget key')])),
    h('div', { class: 'messages' },
      h('div', { role: 'status', 'aria-live': 'polite' },
        trouble && h('p', { class: 'box bad', key: 'trouble' }, trouble, app.status && ` The figures are those of ${exact(app.status.now).slice(11, 19)}.`),
        said.text && h('p', { class: `box ${said.kind}`, key: 'said' }, visible(said.text))),
      said.text && h('button', { type: 'button', class: 'close', onclick: hush }, 'Dismiss')),
    h('main', { id: 'main', tabindex: -1 }, content()),
    h('footer', null, h('p', { class: 'muted' }, 'Every figure is a count kept by the server; nothing is scanned.')),
  ];
}

function link({ name, title }) {
  const isHere = (route.parts[0] ?? '') === name;
  const { dlq, parked } = app.status?.queues ?? {};
  const waiting = { 'dead-letters': dlq, upstreams: parked }[name];
  return h('li', { key: name }, h('a', { href: `#/${name}`, 'aria-current': isHere ? 'page' : null },
    title, waiting > 0 && h('span', { class: 'tally' }, ' ', count(waiting))));
}

function live() {
  const word = trouble ? 'not live' : app.status ? 'live' : 'connecting';
  return h('span', { class: `live is-${word.replace(' ', '-')}` }, word);
}

function content() {
  if (!session.asked) return h('p', { class: 'muted' }, 'Connecting \u2026');
  if (!may('read')) {
    return [
      h('h1', { tabindex: -1 }, 'Who is there?'),
      h('p', null, session.why ? visible(`${session.why}.`) : 'This service wants an API key.'),
      h('p', null, h('button', { type: 'button', class: 'primary', onclick: () => askForKey('') }, 'Enter an API key')),
    ];
  }
  if (!view) {
    return [h('h1', { tabindex: -1 }, 'Nothing here'), h('p', null, h('a', { href: '#/' }, 'To the overview'))];
  }
  return [h('h1', { tabindex: -1 }, visible(view.title)), view.render()];
}

function skip(event) {
  event.preventDefault(); // the address belongs to the views
  document.getElementById('main').focus();
}

function hush() {
  said = { text: '', kind: '' };
  render();
}

/** Show the view that the address names. */
function show() {
  view?.stop();
  view = null;
  if (may('read')) {
    const found = VIEWS.find(({ name }) => name === (route.parts[0] ?? ''));
    view = found ? found.make(route, app) : null;
  }
  document.title = view ? `${view.title} \u2013 taskflow` : 'taskflow';
  render();
}

function moved() {
  route = routeOf(location.hash);
  said = { text: '', kind: '' };
  show();
  scrollTo(0, 0);
  // After the frame in which the new heading is there.
  requestAnimationFrame(() => requestAnimationFrame(() => document.querySelector('h1')?.focus()));
}

function take(name, data) {
  if (name === 'unavailable') {
    trouble = 'The server that keeps the tasks does not answer; trying again.';
  } else if (name === 'status') {
    trouble = '';
    if (app.status && counts(app.status) !== counts(data)) app.changes += 1;
    app.status = data;
    offset = Date.parse(data.now) - Date.now();
  }
  render();
}

/** Ages grow every second; only these say that tasks have moved. */
function counts({ queues, states }) {
  return JSON.stringify([queues, states]);
}

function connect() {
  stream?.stop();
  stream = follow('api/v1/queues/status/stream', {
    event: take,
    open: () => {
      trouble = '';
      render();
    },
    lost: (error) => {
      trouble = error.status ? `No live figures: ${visible(error.message)}` : 'Connection lost; trying again.';
      render();
    },
    refused: (error) => {
      // As many streams are open as may be: ask now and then instead.
      if (error.status === 429) read('api/v1/queues/status').then((data) => take('status', data), () => {});
      return error.status !== 401 && error.status !== 403;
    },
  });
}

/** Begin, or begin again with another key. */
async function start() {
  view?.stop();
  view = null;
  stream?.stop();
  app.status = null;
  try {
    await askLevel();
    trouble = '';
  } catch (error) {
    trouble = `${visible(error.message)} Trying again.`;
    render();
    setTimeout(start, 2000);
    return;
  }
  if (may('read')) {
    connect();
    look();
  }
  show();
  if (!may('read') && !session.why) askForKey(key() ? 'This key is not known.' : '');
}

/** Find out which of the parts that may be left out this service has. */
async function look() {
  await Promise.all(Object.keys(parts).map(async (name) => {
    try {
      await read(`api/v1/${name}/`);
      parts[name] = true;
    } catch (error) {
      parts[name] = error.status !== 404;
    }
  }));
  render();
}

async function askForKey(problem) {
  if (asking) return;
  asking = true;
  const answer = await ask({
    title: 'API key',
    go: 'Use this key',
    says: [
      problem && h('p', { class: 'box bad', role: 'alert' }, problem),
      h('p', null, 'It is kept in this tab until the tab is closed, and sent to this service only.'),
    ].filter(Boolean),
    inputs: [{ name: 'key', label: 'Key', type: 'password', required: true }],
  });
  asking = false;
  if (!answer) return;
  useKey(answer.key);
  start();
}

function forget() {
  useKey('');
  session.asked = false;
  start();
}

onUnauthorized(() => {
  if (session.level === 'none') return;
  session.level = 'none';
  start();
});
onShape(render);
addEventListener('hashchange', moved);
// "3 s ago" grows old by itself.
setInterval(() => {
  if (!document.hidden) render();
}, 5000);
render();
start();
