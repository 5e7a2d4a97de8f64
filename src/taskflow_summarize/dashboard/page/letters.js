// Dead letters by the kind of their error: what died, how often, and what to do.

import { ask as request, may, read } from './api.js';
import { ask } from './dialog.js';
import { h } from './dom.js';
import { pager, reading, stale, table, trouble } from './parts.js';
import { go, hashOf } from './route.js';
import { taskTable } from './tasks.js';
import { count, foreign, moment, some, visible } from './text.js';

const GROUPS = 50;

export function letters(route, app) {
  const fingerprint = route.query.get('fingerprint') ?? '';
  const cursor = route.query.get('cursor') ?? '';
  const skip = Math.max(0, Number.parseInt(route.query.get('skip') ?? '0', 10) || 0);
  const groups = reading((signal) => read('api/v1/queues/dlq/groups', { skip: String(skip), limit: GROUPS }, signal), app);
  const list = reading((signal) => read('api/v1/queues/dlq', { fingerprint, cursor, limit: 50 }, signal), app);
  const again = () => {
    groups.again();
    list.again();
  };
  return {
    title: 'Dead letters',
    render: () => [
      stale({ ...list, again }, app),
      groups.error ? trouble(groups.error, groups.again) : groups.data && groupsShown(groups.data.groups, { fingerprint, skip, again, app }),
      h('h2', null, fingerprint ? ['Letters of the group ', foreign(fingerprint, 64)] : 'All letters'),
      fingerprint && h('p', null, h('a', { href: '#/dead-letters' }, 'Show those of all groups')),
      list.error ? trouble(list.error, list.again) : list.data && lettersShown(list.data, { fingerprint, cursor, again, app }),
    ],
    stop: () => {
      groups.stop();
      list.stop();
    },
  };
}

function groupsShown(found, { fingerprint, skip, again, app }) {
  const columns = [['Count', 'number'], ['Error', 'long'], ['Task', 'name roomy'], ['First', 'roomy'], ['Last', 'roomy'], ['Actions']];
  return [
    h('h2', null, 'Groups'),
    h('p', { class: 'muted' }, 'Errors of one kind share a group: numbers, ids and quoted text are left out before they are compared.'),
    found.length === 0 && h('p', { class: 'box' }, 'There is no dead letter.'),
    found.length > 0 && table('Groups', columns, found.map((group) => h('tr', {
      key: group.fingerprint, class: group.fingerprint === fingerprint ? 'chosen' : null,
    },
    h('td', { class: 'number' }, count(group.count)),
    h('td', null,
      h('div', { class: 'clamp' },
        h('a', { href: hashOf(['dead-letters'], { fingerprint: group.fingerprint }) }, foreign(group.error_type || group.cause, 80)), ' ',
        foreign(group.error_message, 160)),
      h('div', { class: 'muted' }, visible(group.cause))),
    h('td', { class: 'roomy' }, foreign(group.task_name, 80)),
    h('td', { class: 'roomy' }, moment(group.first_died_at, app.now())),
    h('td', { class: 'roomy' }, moment(group.last_died_at, app.now())),
    h('td', null, both({ fingerprint: group.fingerprint }, 'this group', again, app))))),
    h('nav', { class: 'pager', 'aria-label': 'Pages of groups' },
      skip > 0 && h('button', { type: 'button', onclick: () => go(['dead-letters'], { fingerprint }) }, 'First groups'),
      found.length === GROUPS && h('button', { type: 'button', onclick: () => go(['dead-letters'], { fingerprint, skip: String(skip + GROUPS) }) }, 'More groups')),
    found.length > 0 && h('p', null, 'All groups: ', both({ everything: true }, 'every group', again, app)),
  ];
}

function lettersShown(page, { fingerprint, cursor, again, app }) {
  const row = (item) => both({ ids: [item.task_id] }, 'this letter', again, app);
  return [
    page.items.length > 0
      ? taskTable(page.items, app, may('operate') ? row : null)
      : h('p', { class: 'box' }, 'No letter here.'),
    pager({
      cursor,
      next: page.next_cursor,
      onFirst: () => go(['dead-letters'], { fingerprint }),
      onNext: () => go(['dead-letters'], { fingerprint, cursor: page.next_cursor }),
      shown: page.items.length,
    }),
  ];
}

function both(chosen, what, again, app) {
  const button = (verb, word, kind) => h('button', {
    key: verb, type: 'button', class: kind, 'aria-disabled': app.busy && 'true', 'aria-label': `${word} ${what}`,
    onclick: () => move(verb, chosen, what, again, app),
  }, `${word} \u2026`);
  return h('span', { class: 'buttons' },
    may('operate') && button('requeue', 'Requeue', ''),
    may('admin') && button('discard', 'Discard', 'danger'));
}

async function move(verb, chosen, what, again, app) {
  const path = `api/v1/queues/dlq/${verb}`;
  const preview = await app.act(() => request('POST', path, { ...chosen, preview: true }));
  if (!preview) return;
  const many = some(preview.matched, 'dead letter');
  const isDiscard = verb === 'discard';
  const answer = await ask({
    title: isDiscard ? `Discard ${many}?` : `Requeue ${many}?`,
    go: isDiscard ? `Discard ${many}` : `Requeue ${many}`,
    danger: isDiscard,
    says: [h('p', null, isDiscard
      ? `${many} of ${what} become failed tasks, which are kept for as long as results are.`
      : `${many} of ${what} enter the retry lane with fresh counts.`)],
    inputs: isDiscard || preview.matched < 2 ? [] : [{
      name: 'rate', label: 'How many a second', type: 'number', min: '0.1', max: '100000', step: 'any',
      hint: 'Empty: all at once.',
    }],
  });
  if (!answer) return;
  const rate = Number.parseFloat(answer.rate);
  const body = rate > 0 ? { ...chosen, rate } : chosen;
  const said = (told) => {
    if (body.rate) return `${some(told.matched, 'dead letter')} will be requeued, ${count(body.rate)} a second.`;
    if (isDiscard) return `${some(told.discarded, 'dead letter')} discarded.`;
    const held = Object.keys(told.held).length;
    return `${some(told.requeued, 'dead letter')} requeued.`
      + (held > 0 ? ` ${count(held)} not: another task has taken the key.` : '');
  };
  if (await app.act(() => request('POST', path, body), said)) again();
}
