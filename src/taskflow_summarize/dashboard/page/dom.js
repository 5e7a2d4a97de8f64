// What is on the page, described by values and brought about with the fewest
// changes, so that focus, selection and what is being typed survive an update.
//
// Text from strangers becomes text nodes and attribute values, nothing else: no
// markup is ever parsed, a link leads into this page only, and a handler is a
// function of ours.

const SVG = 'http://www.w3.org/2000/svg';
const ALLOWED = /^(?:aria-[a-z]+|[a-z][a-z-]*|viewBox|markerWidth|markerHeight|refX|refY)$/;
const REFUSED = new Set(['style', 'srcdoc', 'src', 'action', 'formaction']);

/**
 * Describe an element.
 * @param {string} tag  its name; svg and what is inside it as well
 * @param {object|null} props  attributes; `onclick` and the like are functions;
 *   `key` names it among its siblings; `made` is called with the new element
 * @param {...*} children  descriptions, texts, numbers, lists of them; null = nothing
 */
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: flat(children, []) };
}

function flat(children, into) {
  for (const child of children) {
    if (Array.isArray(child)) flat(child, into);
    else if (child?.tag) into.push(child);
    else if (child !== null && child !== undefined && child !== false) {
      into.push({ text: String(child) });
    }
  }
  return into;
}

/** Make the children of *parent* what *children* describe. */
export function patch(parent, children) {
  const before = parent.shown ?? [];
  const known = new Map();
  before.forEach((entry, index) => known.set(nameOf(entry.said, index), entry));
  const after = children.map((said, index) => {
    const entry = known.get(nameOf(said, index));
    if (entry) {
      known.delete(nameOf(said, index));
      update(entry, said);
      return entry;
    }
    return make(said, parent.namespaceURI === SVG);
  });
  for (const entry of known.values()) entry.node.remove();
  let next = null;
  for (const entry of [...after].reverse()) {
    // Moving a node that stands right would take its focus away.
    if (entry.node.parentNode !== parent || entry.node.nextSibling !== next) {
      parent.insertBefore(entry.node, next);
    }
    next = entry.node;
  }
  parent.shown = after;
}

function nameOf(said, index) {
  if (said.tag === undefined) return `#text ${index}`;
  return said.props.key === undefined
    ? `${said.tag} ${index}`
    : `${said.tag} key ${said.props.key}`;
}

function make(said, inSvg) {
  if (said.tag === undefined) {
    return { said, node: document.createTextNode(said.text) };
  }
  const isSvg = inSvg || said.tag === 'svg';
  const node = isSvg
    ? document.createElementNS(SVG, said.tag)
    : document.createElement(said.tag);
  const entry = { said: { tag: said.tag, props: {}, children: [] }, node };
  update(entry, said);
  said.props.made?.(node);
  return entry;
}

function update(entry, said) {
  const { node } = entry;
  if (said.tag === undefined) {
    if (entry.said.text !== said.text) node.data = said.text;
  } else {
    const before = entry.said.props;
    // Before the value of a select comes what it chooses from.
    patch(node, said.children);
    for (const name of new Set([...Object.keys(before), ...Object.keys(said.props)])) {
      if (before[name] !== said.props[name]) set(node, name, said.props[name]);
    }
  }
  entry.said = said;
}

function set(node, name, value) {
  if (name === 'key' || name === 'made') return;
  if (name.startsWith('on')) {
    node[name] = typeof value === 'function' ? value : null;
  } else if (name === 'value' || name === 'checked') {
    node[name] = value ?? '';
  } else if (!ALLOWED.test(name) || REFUSED.has(name)) {
    throw new Error(`no attribute ${name} here`);
  } else if (value === null || value === undefined || value === false) {
    node.removeAttribute(name);
  } else if (name === 'href' && !String(value).startsWith('#')) {
    throw new Error('a link leads into this page only');
  } else {
    node.setAttribute(name, value === true ? '' : String(value));
  }
}
