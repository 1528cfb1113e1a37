// Shows /openapi.json to people. Texts go in as text, never as HTML.
'use strict';

const METHODS = ['get', 'put', 'post', 'delete'];

const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children.filter((child) => child !== null));
  return element;
};

function show(api) {
  const resolve = (schema) => {
    const name = schema?.$ref?.split('/').pop();
    return name ? { name, ...api.components.schemas[name] } : schema ?? {};
  };

  /** A schema's type in a few words. */
  const typeOf = (given) => {
    if (given?.$ref) return given.$ref.split('/').pop();
    const schema = given ?? {};
    const options = schema.oneOf ?? schema.anyOf;
    if (options) return options.map(typeOf).join(' or ');
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' or ');
    if (schema.type === 'array') return `list of ${typeOf(schema.items)}`;
    return [schema.type ?? 'any value'].flat().join(' or ');
  };

  const boundsOf = (schema) => [
    schema.minLength !== undefined || schema.maxLength !== undefined
      ? `${schema.minLength ?? 0} to ${schema.maxLength ?? '∞'} characters` : null,
    schema.minimum !== undefined || schema.maximum !== undefined
      ? `${schema.minimum ?? '-∞'} to ${schema.maximum ?? '∞'}` : null,
    schema.maxItems !== undefined ? `at most ${schema.maxItems}` : null,
    schema.pattern ? `matches ${schema.pattern}` : null,
  ].filter(Boolean).join('; ');

  const row = (name, schema, required, about) => make('tr', {},
    make('td', {}, make('code', {}, name), required ? ' (required)' : ''),
    make('td', {}, typeOf(schema)),
    make('td', {}, [about ?? schema.description, boundsOf(schema)].filter(Boolean).join(' ')));

  const table = (rows) => make('table', {},
    make('thead', {}, make('tr', {}, ...['name', 'type', 'meaning'].map((text) => make('th', {}, text)))),
    make('tbody', {}, ...rows));

  /** An object's fields, and those of what it is made of. */
  const fields = (given, seen = new Set()) => {
    const schema = resolve(given);
    if (schema.name) {
      if (seen.has(schema.name)) return [];
      seen.add(schema.name);
    }
    const inner = [...(schema.oneOf ?? []), ...(schema.anyOf ?? []), schema.items].filter(Boolean);
    const own = schema.properties ? [
      schema.name ? make('h4', {}, schema.name) : null,
      schema.description ? make('p', {}, schema.description) : null,
      table(Object.entries(schema.properties).map(([name, property]) =>
        row(name, property, schema.required?.includes(name)))),
    ] : [];
    const below = [...inner, ...Object.values(schema.properties ?? {})].flatMap((part) => fields(part, seen));
    return [...own, ...below];
  };

  const body = (content) => Object.entries(content ?? {}).flatMap(([kind, { schema }]) => [
    make('p', {}, `${kind}: ${typeOf(schema)}`), ...fields(schema),
  ]);

  const call = (path, method, operation) => {
    const key = operation.security?.length > 0;
    const sends = operation.requestBody;
    const example = ['curl', method === 'get' ? null : `-X ${method.toUpperCase()}`,
      key ? '-H "Authorization: Bearer $KEY"' : null, sends ? "-d '{…}'" : null,
      `'${location.origin}${path}'`].filter(Boolean).join(' ');
    return make('article', { id: `${method}-${path}` },
      make('h3', {}, make('span', { className: 'method' }, method.toUpperCase()), ` ${path}`),
      make('p', {}, operation.summary ?? ''),
      operation.description ? make('p', {}, operation.description) : null,
      make('pre', {}, example),
      operation.parameters?.length ? table(operation.parameters.map((parameter) =>
        row(parameter.name, parameter.schema, parameter.required, parameter.description))) : null,
      sends ? make('details', { open: true }, make('summary', {}, 'Request'), ...body(sends.content)) : null,
      ...Object.entries(operation.responses).map(([status, response]) => make('details', { open: status === '200' },
        make('summary', {}, `${status}: ${response.description}`), ...body(response.content))));
  };

  document.querySelector('#version').textContent = api.info.version;
  document.querySelector('#about').textContent = api.info.description;
  const groups = new Map();
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = item[method].tags?.[0] ?? 'other';
      groups.set(tag, [...groups.get(tag) ?? [], [path, method, item[method]]]);
    }
  }
  const calls = [...groups].map(([tag, all]) => make('section', {},
    make('h2', {}, tag), ...all.map((one) => call(...one))));
  document.querySelector('#calls').replaceChildren(...calls);
  document.querySelector('#contents').replaceChildren(make('ul', {}, ...[...groups.values()].flat().map(
    ([path, method]) => make('li', {}, make('a', { href: `#${method}-${path}` }, `${method.toUpperCase()} ${path}`)))));
}

fetch('/openapi.json').then((response) => response.json()).then(show).catch((error) => {
  document.querySelector('#state').textContent = `The description cannot be read: ${error.message}`;
});
