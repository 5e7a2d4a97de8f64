// The address says what is looked at: "#/tasks?status=DLQ". It can be kept and sent.

/** Take an address apart. */
export function routeOf(hash) {
  const text = hash.replace(/^#\/?/, '');
  const mark = text.indexOf('?');
  const path = mark < 0 ? text : text.slice(0, mark);
  return {
    parts: path.split('/').filter(Boolean).map(decoded),
    query: new URLSearchParams(mark < 0 ? '' : text.slice(mark + 1)),
  };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Return the address of a view, with the parts of *query* that are not empty. */
export function hashOf(parts, query = {}) {
  const chosen = Object.entries(query).filter(([, value]) => value);
  const text = new URLSearchParams(chosen).toString();
  return `#/${parts.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** Go to a view. */
export function go(parts, query) {
  location.hash = hashOf(parts, query);
}
