// Questions that stop everything else: is this meant, and with which key.

import { h, patch } from './dom.js';

/**
 * Ask before something that cannot be taken back, or that touches many tasks.
 * @param {object} question  `title`; `says`, descriptions; `go`, the button's word;
 *   `danger`; `inputs`, a list of `{name, label, hint, type, ...}`
 * @returns {Promise<object|null>} the inputs' values by name; null = no
 */
export function ask({ title, says = [], go, danger = false, inputs = [] }) {
  return new Promise((resolve) => {
    const place = document.createElement('div');
    document.body.append(place);
    let values = null;
    const close = () => place.querySelector('dialog').close();
    const submit = (event) => {
      event.preventDefault();
      const form = event.target;
      values = Object.fromEntries(
        inputs.map(({ name }) => [name, form.elements.namedItem(name).value.trim()]),
      );
      close();
    };
    const ended = () => {
      place.remove();
      resolve(values);
    };
    patch(place, [
      h('dialog', { 'aria-labelledby': 'dialog-title', onclose: ended },
        h('form', { onsubmit: submit },
          h('h2', { id: 'dialog-title' }, title),
          says,
          inputs.map(input),
          h('div', { class: 'buttons' },
            h('button', { type: 'button', onclick: close }, 'Cancel'),
            h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, go)))),
    ]);
    place.querySelector('dialog').showModal();
  });
}

function input({ name, label, hint, ...attributes }) {
  const id = `dialog-${name}`;
  return h('p', { class: 'field' },
    h('label', { for: id }, label),
    h('input', { id, name, autocomplete: 'off', spellcheck: 'false', ...attributes }),
    hint && h('span', { class: 'hint' }, hint));
}
