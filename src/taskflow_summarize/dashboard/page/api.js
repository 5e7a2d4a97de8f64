// Talks to the API beside the page: one place for its address, the key and errors.

import { parse } from './text.js';

const LEVELS = ['none', 'read', 'operate', 'admin'];
const STORED = 'taskflow-api-key';
const PATIENCE = 20000;

const root = new URL(
  document.querySelector('meta[name="taskflow-api"]').content,
  document.baseURI,
);

/** What the key in use, or its absence, may do; told by the server. */
export const session = { level: 'none', actor: '', why: '', asked: false };

/** An answer that says no, or none at all (status 0). */
export class ApiError extends Error {
  constructor(status, code, detail, facts = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.facts = facts;
  }
}

let whenRefused = () => {};

/** Call *listener* when the server does not know who asks any more. */
export function onUnauthorized(listener) {
  whenRefused = listener;
}

/** Whether an action that needs *level* is worth offering. */
export function may(level) {
  return LEVELS.indexOf(session.level) >= LEVELS.indexOf(level);
}

/** Return the key in use; it lives as long as this tab. */
export function key() {
  try {
    return sessionStorage.getItem(STORED) ?? '';
  } catch {
    return ''; // storage is forbidden here; then there is no key
  }
}

/** Use *value* as the key; empty: none. */
export function useKey(value) {
  if (value) sessionStorage.setItem(STORED, value);
  else sessionStorage.removeItem(STORED);
}

/** Ask what the key in use may do. */
export async function askLevel() {
  const url = new URL('dashboard/session', document.baseURI);
  const answer = await send(url, {});
  session.level = LEVELS.includes(answer.level) ? answer.level : 'none';
  session.actor = String(answer.actor ?? '');
  session.why = String(answer.why ?? ''); // what to do for a higher level
  session.asked = true;
}

/** Return the address of *path* with the *query*'s parts that are not empty. */
export function address(path, query = {}) {
  const url = new URL(path, root);
  for (const [name, value] of Object.entries(query)) {
    if (value !== '' && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** Read *path* of the API. */
export function read(path, query, signal) {
  return send(address(path, query), { signal });
}

/** Ask the API to do something. */
export function ask(method, path, body, query) {
  return send(address(path, query), { method, body });
}

/** Return the headers that show the key. */
export function shownKey() {
  return key() ? { Authorization: `Bearer ${key()}` } : {};
}

async function send(url, { method = 'GET', body, signal }) {
  const limit = AbortSignal.timeout(PATIENCE);
  const signals = signal ? [signal, limit] : [limit];
  const options = {
    method,
    headers: { Accept: 'application/json', ...shownKey() },
    signal: AbortSignal.any(signals),
    cache: 'no-store',
    credentials: 'same-origin',
    redirect: 'error',
  };
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let answer;
  let text;
  try {
    answer = await fetch(url, options);
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, 'no_answer', 'The service does not answer.');
  }
  if (!answer.ok) throw refusal(answer.status, text);
  try {
    return parse(text);
  } catch {
    throw new ApiError(answer.status, 'no_json', 'The service answered something else than JSON.');
  }
}

/** Make the error that an answer with *status* and *text* is. */
export function refusal(status, text) {
  let facts = {};
  try {
    facts = JSON.parse(text) ?? {};
  } catch {
    facts = {};
  }
  const detail = typeof facts.detail === 'string' ? facts.detail : `The service answered ${status}.`;
  if (status === 401) whenRefused();
  if (status === 403 && LEVELS.includes(facts.given)) session.level = facts.given;
  return new ApiError(status, String(facts.code ?? ''), detail, facts);
}
