// Requests the mask under the pointer: one request at a time, always the newest.

import { decodeMask } from './masks.js';

const DELAY = 15;   // milliseconds in which further movements replace the first

export class Pointer {
  #mask;
  #show;
  #fail;
  #wanted = null;    // 'x,y' under the pointer
  #running = false;
  #timer = 0;
  #latest = null;    // {key, found}, the last answer

  // mask(x, y) asks the engine; show(found) shows an answer, or null when the pointer has left.
  constructor(mask, show, fail) {
    this.#mask = mask;
    this.#show = show;
    this.#fail = fail;
  }

  // The pointer is at a pixel.
  move(x, y) {
    const key = `${x},${y}`;
    if (key === this.#wanted) return;
    this.#wanted = key;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#run(), DELAY);
  }

  // The pointer has left the image, or the image has changed.
  leave() {
    this.#wanted = this.#latest = null;
    clearTimeout(this.#timer);
    this.#show(null);
  }

  // Returns the mask at a pixel: {score, name, categoryId, pixels}.
  async ask(x, y) {
    const key = `${x},${y}`;
    if (this.#latest?.key === key) return this.#latest.found;
    const answer = await this.#mask(x, y);
    return { ...answer, pixels: decodeMask(answer.mask) };
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    try {
      for (let key = null; this.#wanted && this.#wanted !== key;) {
        key = this.#wanted;
        const found = await this.ask(...key.split(',').map(Number));
        if (key !== this.#wanted) continue;   // the pointer has moved on
        this.#latest = { key, found };
        this.#show(found);
      }
    } catch (error) {
      if (this.#wanted) this.#fail(error);
    } finally {
      this.#running = false;
    }
  }
}
