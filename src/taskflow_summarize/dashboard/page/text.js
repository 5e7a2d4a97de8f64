// Texts: what strangers wrote made visible, and numbers and times made readable.

import { h } from './dom.js';

// Controls, marks that turn the direction of text, and what has no width: shown by
// their numbers, because they can make a name look like another one.
const HIDDEN = new RegExp(
  '[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f'
    + '\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}\\ud800-\\udfff]',
  'gu',
);
const CROWDED = /(\p{M}{4})\p{M}+/gu;

/** Return *text* with every invisible character shown by its number. */
export function visible(text) {
  return String(text)
    .replace(HIDDEN, (sign) => {
      const number = sign.codePointAt(0).toString(16).toUpperCase().padStart(4, '0');
      return `\u27e8U+${number}\u27e9`;
    })
    .replace(CROWDED, '$1\u2026');
}

/** Return the first *most* characters of *text*; cuts no character in two. */
export function cut(text, most) {
  const head = String(text).slice(0, most * 2);
  const signs = Array.from(head);
  return signs.length > most || head.length < String(text).length
    ? `${signs.slice(0, most).join('')}\u2026`
    : head;
}

/** Describe a stranger's text on one line, isolated from the direction around it. */
export function foreign(text, most = 160) {
  const line = cut(text, most).replace(/[\t\n]+/g, ' ');
  return h('bdi', { class: 'foreign' }, visible(line));
}

const INTEGERS = new Intl.NumberFormat('en');

/** Return a count with separators; a dash for what is not known. */
export function count(value) {
  return Number.isFinite(value) ? INTEGERS.format(value) : '\u2013';
}

/** Return "1 task", "2 tasks". */
export function some(value, noun, plural = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** Return a ratio 0..1 as percent; a dash for null. */
export function percent(ratio) {
  return typeof ratio === 'number' ? `${Math.round(ratio * 100)} %` : '\u2013';
}

/** Return seconds as two units at most: "42 s", "3 min 5 s", "2 h 10 min". */
export function duration(seconds) {
  if (typeof seconds !== 'number' || !Number.isFinite(seconds)) return '\u2013';
  const whole = Math.max(0, Math.floor(seconds));
  if (seconds > 0 && seconds < 1) return '< 1 s';
  for (const [unit, size, smaller, part] of [
    ['d', 86400, 'h', 3600],
    ['h', 3600, 'min', 60],
    ['min', 60, 's', 1],
  ]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / part);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smaller}` : ''}`;
    }
  }
  return `${whole} s`;
}

/** Describe a moment: how long ago, and exactly when it is hovered or read out. */
export function moment(text, now) {
  if (!text) return h('span', { class: 'muted' }, '\u2013');
  const at = Date.parse(text);
  const ago = (now - at) / 1000;
  const words = ago < 0 ? `in ${duration(-ago)}` : `${duration(ago)} ago`;
  return h('time', { datetime: text, title: exact(text) }, words);
}

/** Return a moment exactly, in the reader's zone. */
export function exact(text) {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) return '\u2013';
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  const away = -date.getTimezoneOffset();
  const sign = away < 0 ? '-' : '+';
  const zone = `${sign}${String(Math.floor(Math.abs(away) / 60)).padStart(2, '0')}:`
    + String(Math.abs(away) % 60).padStart(2, '0');
  return `${local.toISOString().slice(0, 23).replace('T', ' ')} ${zone}`;
}

/** Read JSON; integers beyond 2^53 keep their digits where the browser can. */
export function parse(text) {
  return JSON.parse(text, (name, value, context) => {
    const isExact = typeof value !== 'number' || Number.isSafeInteger(value)
      || !Number.isInteger(value);
    return isExact || !context?.source || !JSON.rawJSON
      ? value
      : JSON.rawJSON(context.source);
  });
}

/** Describe a state: always its word, the colour only says it again. */
export function badge(state, extra = '') {
  const kind = String(state).toLowerCase().replace(/[^a-z_]/g, '');
  return h('span', { class: `badge ${kind}` }, visible(state), extra);
}
