/** The few lines of DOM that the page needs. Text goes in as text, never as HTML. */

/** The element with this id in index.html. */
export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  // Safe: index.html and its scripts are one piece, and the browser test loads both.
  return document.getElementById(id) as T;
}

export function element<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  properties: Partial<HTMLElementTagNameMap[Name]> = {},
  children: readonly (Node | string)[] = [],
): HTMLElementTagNameMap[Name] {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export function kilobytes(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function milliseconds(ms: number): string {
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
