// Server-sent events, read with fetch: EventSource cannot show a key.
//
// A stream that ends is opened again, later each time it fails. It is closed while
// the tab is hidden: a browser opens six connections to one origin over HTTP/1.1,
// and forgotten tabs would use them up.

import { address, refusal, shownKey } from './api.js';

const SILENCE = 40000; // the service says something every 15 s
const LONGEST = 15000;

/**
 * Follow a stream of the API until `stop()`.
 * @param {string} path  of the stream
 * @param {object} told  `event(name, data)`, `open()`, `lost(error)`; `refused(error)`
 *   says whether to try again after an answer that says no
 * @returns {{stop: function}}
 */
export function follow(path, told) {
  let stopped = false;
  let underway = null;
  let timer = 0;
  let failures = 0;
  let lastId = '';

  async function go() {
    if (stopped || underway || document.hidden) return;
    const mine = new AbortController();
    underway = mine;
    let error = null;
    try {
      await readAll(path, mine, lastId, {
        open() {
          failures = 0;
          told.open?.();
        },
        event(name, data, id) {
          if (id) lastId = id;
          told.event(name, data);
        },
      });
    } catch (caught) {
      error = caught;
    }
    if (underway === mine) underway = null;
    if (stopped || mine.signal.reason === 'hidden') return;
    if (error) {
      failures += 1;
      told.lost?.(error);
      if (error.status && told.refused && !told.refused(error)) return;
    }
    const wait = error ? Math.min(LONGEST, 500 * 2 ** Math.min(failures, 6)) : 250;
    timer = setTimeout(go, wait * (0.75 + Math.random() / 2));
  }

  function seen() {
    if (document.hidden) {
      clearTimeout(timer);
      underway?.abort('hidden');
      underway = null;
    } else {
      failures = 0;
      clearTimeout(timer);
      go();
    }
  }

  document.addEventListener('visibilitychange', seen);
  go();
  return {
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', seen);
      underway?.abort('stopped');
    },
  };
}

async function readAll(path, mine, lastId, told) {
  let watch = 0;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => mine.abort('silence'), SILENCE);
  };
  alive();
  try {
    const headers = { Accept: 'text/event-stream', ...shownKey() };
    if (lastId) headers['Last-Event-ID'] = lastId;
    const answer = await fetch(address(path), {
      headers,
      signal: mine.signal,
      cache: 'no-store',
      credentials: 'same-origin',
      redirect: 'error',
    });
    if (!answer.ok) throw refusal(answer.status, await answer.text());
    told.open();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const take = events(told.event);
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      take(value);
    }
  } finally {
    clearTimeout(watch);
  }
}

/** Return a function that takes pieces of a stream and tells its whole events. */
export function events(tell) {
  let rest = '';
  let name = '';
  let id = '';
  let data = [];
  return (piece) => {
    const lines = (rest + piece).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (data.length) deliver(tell, name || 'message', data.join('\n'), id);
        name = '';
        data = [];
        continue;
      }
      const colon = line.indexOf(':');
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'event') name = value;
      else if (field === 'data') data.push(value);
      else if (field === 'id') id = value;
    }
  };
}

function deliver(tell, name, text, id) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    return; // no event of ours
  }
  tell(name, data, id);
}
