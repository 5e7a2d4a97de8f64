// What several views are made of.

import { h } from './dom.js';
import { count, visible } from './text.js';

/** Describe why something could not be shown, and offer to try again. */
export function trouble(error, again) {
  return h('div', { class: 'box bad', role: 'alert' },
    h('p', null, visible(error.message)),
    again && h('p', null, h('button', { type: 'button', onclick: again }, 'Try again')));
}

/** Describe a table that scrolls on its own where it is too wide. */
export function table(label, columns, rows) {
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label },
    h('table', null,
      h('thead', null, h('tr', null, columns.map(([name, kind]) => h('th', { scope: 'col', class: kind }, name)))),
      h('tbody', null, rows)));
}

/**
 * Read something, keep what was read, and say how it went.
 * @param {function} load  gets a signal, returns a promise
 * @param {object} app  is told to render
 */
export function reading(load, app) {
  let underway = null;
  const state = { data: null, error: null, loading: true, at: 0 };
  state.again = async () => {
    underway?.abort();
    const mine = new AbortController();
    underway = mine;
    state.loading = true;
    app.render();
    try {
      const data = await load(mine.signal);
      if (underway !== mine) return;
      Object.assign(state, { data, error: null, at: app.changes });
    } catch (error) {
      if (underway !== mine) return;
      state.error = error;
    }
    state.loading = false;
    app.render();
  };
  state.stop = () => {
    underway?.abort();
    underway = null;
  };
  state.again();
  return state;
}

/** Describe the way on through a list that comes in pages. */
export function pager({ cursor, next, onFirst, onNext, shown, examined }) {
  const says = examined === undefined || examined <= shown
    ? `${count(shown)} shown`
    : `${count(shown)} shown of ${count(examined)} looked at`;
  return h('nav', { class: 'pager', 'aria-label': 'Pages' },
    h('span', { class: 'muted' }, says),
    cursor && h('button', { type: 'button', onclick: onFirst }, 'First page'),
    next && h('button', { type: 'button', onclick: onNext }, 'Next page'));
}

/** Describe that the counts moved since a list was read; after an act of ours, read. */
export function stale(state, app) {
  if (!state.data || state.at === app.changes || state.loading) return null;
  if (Date.now() - app.actedAt < 3000) {
    queueMicrotask(state.again);
    return null;
  }
  return h('p', { class: 'box' }, 'Tasks have moved since this list was read. ',
    h('button', { type: 'button', onclick: state.again }, 'Read it again'));
}
