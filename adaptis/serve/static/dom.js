// Helpers for elements and texts of the page.

export const find = (id) => document.getElementById(id);

// Shows a sentence in its place, or hides the place.
export function tell(place, sentence) {
  find(place).textContent = sentence;
  find(place).hidden = !sentence;
}

export function makeElement(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function makeButton(text, action) {
  const button = makeElement('button', { type: 'button' }, text);
  button.addEventListener('click', action);
  return button;
}

export function percent(score) {
  return `${(100 * score).toFixed(0)} %`;
}

export function plural(count, what) {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  makeElement('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
