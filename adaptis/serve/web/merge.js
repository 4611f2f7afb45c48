// Which object gets a pixel, and the class of an object: adaptis/inference/merge.py in the browser.

import { resize } from './resize.js';

// Takes masks one by one in order of acceptance.  `encoded` contains the network's outputs for the image,
// and `size` is that of the result.
export class Merger {
  #encoded;
  #settings;
  #size;
  #best;
  #owner;
  #classes = [];

  constructor(encoded, settings, size) {
    this.#encoded = encoded;
    this.#settings = settings;
    this.#size = size;
    this.#owner = new Int32Array(size.height * size.width);
    this.#best = this.#background();
  }

  // Lets one more mask, at the size of the network's maps, claim pixels.
  add(mask) {
    this.#classes.push(thingClass(mask, this.#encoded, this.#settings));
    const number = this.#classes.length;
    resize(mask, this.#encoded.size, this.#size).forEach((prob, i) => {
      if (prob > this.#best[i]) {
        this.#best[i] = prob;
        this.#owner[i] = number;
      }
    });
  }

  // Returns [{categoryIndex, isthing, score, pixels}]: things in order of acceptance, then stuff;
  // pixels are bytes, 1 inside.
  result() {
    const least = Math.fround(this.#settings.min_things_prob);
    this.#owner.forEach((_, i) => {
      if (this.#best[i] < least) this.#owner[i] = 0;
    });
    return [...this.#things(), ...this.#stuff()];
  }

  #things() {
    const segments = this.#classes.map((index) => this.#segment(index, true));
    this.#owner.forEach((number, i) => {
      if (number) count(segments[number - 1], i, this.#best[i]);
    });
    return finish(segments);
  }

  #stuff() {
    const { stuff } = this.#encoded;
    const classes = this.#likeliest();
    const segments = stuff.map((map, index) => {
      const segment = this.#segment(index, false);
      const prob = this.#enlarge(map);
      classes.forEach((found, i) => {
        if (found === index && !this.#owner[i]) count(segment, i, prob[i]);
      });
      return segment;
    });
    return finish(segments);
  }

  #segment(categoryIndex, isthing) {
    return { categoryIndex, isthing, area: 0, total: 0, pixels: new Uint8Array(this.#owner.length) };
  }

  #enlarge(map) {
    return resize(map, this.#encoded.size, this.#size);
  }

  // Returns the score of "no object".
  #background() {
    const sum = new Float32Array(this.#owner.length);
    for (const map of this.#encoded.things) {
      this.#enlarge(map).forEach((prob, i) => { sum[i] += prob; });
    }
    const mult = Math.fround(this.#settings.stuff_prob_mult);
    return sum.map((prob) => mult * Math.fround(1 - prob));
  }

  // Returns the most probable class of each pixel, the first if several are; -1 where the stuff is
  // uncertain.
  #likeliest() {
    const { stuff, things } = this.#encoded;
    const classes = new Int32Array(this.#owner.length);
    const best = new Float32Array(this.#owner.length);
    const compete = (map, index) => this.#enlarge(map).forEach((prob, i) => {
      if (prob > best[i]) {
        best[i] = prob;
        classes[i] = index;
      }
    });
    stuff.forEach(compete);
    const least = Math.fround(this.#settings.min_stuff_prob);
    const unsure = Uint8Array.from(best, (prob) => (prob < least ? 1 : 0));
    things.forEach((map, index) => compete(map, stuff.length + index));
    return classes.map((index, i) => (unsure[i] ? -1 : index));
  }
}

// Returns the index of the thing class with the highest mean probability inside a mask, which has the
// size of the network's maps.
export function thingClass(mask, { stuff, things }, settings) {
  const threshold = Math.fround(settings.mask_threshold);
  const inside = mask.map((prob) => (prob > threshold ? 1 : 0));
  const weights = inside.includes(1) ? inside : mask;
  const totals = things.map((map) => map.reduce((sum, prob, i) => sum + prob * weights[i], 0));
  return stuff.length + totals.indexOf(Math.max(...totals));
}

function count(segment, i, prob) {
  segment.pixels[i] = 1;
  segment.area += 1;
  segment.total += prob;
}

function finish(segments) {
  return segments.filter(({ area }) => area).map(({ categoryIndex, isthing, area, total, pixels }) => (
    { categoryIndex, isthing, pixels, score: Math.min(Math.max(total / area, 0), 1) }));
}
