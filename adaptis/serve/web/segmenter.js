// One image and a network: the counterpart of adaptis.inference.Predictor in Python.

import { meanConfidence, proposalMap, searchProposals, selectMasks } from './greedy.js';
import { Merger, thingClass } from './merge.js';
import { movePoint, networkSize, resize, resizeBytes } from './resize.js';

// Computes the features of an image: three planes (red, green, blue) of bytes with 32 bits each.
export async function openPicture(network, planes, size) {
  const seen = networkSize(size, network.settings);
  if (seen.height * seen.width > network.settings.max_pixels) {
    throw new Error(`The image has ${seen.width}x${seen.height} pixels, too many for this `
                    + 'network: use a smaller one.');
  }
  const scaled = planes.map((plane) => resizeBytes(plane, size, seen));
  return new Segmenter(network, await network.encode(scaled, seen), size);
}

class Segmenter {
  #network;
  #encoded;
  #settings;

  constructor(network, encoded, size) {
    this.#network = network;
    this.#encoded = encoded;
    this.#settings = network.hasProposals ? network.settings
      : { ...network.settings, sampling: 'random' };
    this.size = size;
  }

  get hasProposals() {
    return this.#network.hasProposals;
  }

  // Returns {score, categoryId, name, probabilities} of the object at a pixel, at the size of the
  // picture.
  async maskAt(x, y) {
    const { height, width } = this.size;
    if (!(x >= 0 && y >= 0 && x <= width - 1 && y <= height - 1)) {
      throw new Error(`The point x=${x}, y=${y} is outside the image: x must be between 0 and `
                      + `${width - 1}, and y between 0 and ${height - 1}.`);
    }
    const point = movePoint({ row: y, col: x }, this.size, this.#encoded.size);
    const mask = resize(await this.#encoded.maskAt(point), this.#encoded.size, this.size);
    const atMaps = resize(mask, this.size, this.#encoded.size);
    const index = thingClass(atMaps, this.#encoded, this.#settings);
    const { id, name } = this.#network.categories[index];
    return {
      score: meanConfidence(mask, this.#settings.mask_threshold), categoryId: id, name,
      probabilities: mask,
    };
  }

  // Returns the points [{x, y, score}] that the network proposes, best first.
  proposals() {
    const map = proposalMap(this.#encoded, this.#settings);
    const { size } = this.#encoded;
    return searchProposals(map, size, this.#settings).map(({ row, col }) => {
      const moved = movePoint({ row, col }, size, this.size);
      return { x: moved.col, y: moved.row, score: map[row * size.width + col] };
    });
  }

  // Returns the segments of the whole picture: [{id, categoryId, name, isthing, score, pixels}].
  // onAccepted({score, pixels}) is called with each object, await onDecided(done, total) with each
  // candidate.
  async segment(onAccepted, onDecided) {
    const merger = new Merger(this.#encoded, this.#settings, this.size);
    await selectMasks(this.#encoded, this.#settings, (mask) => {
      merger.add(mask);
      const larger = resize(mask, this.#encoded.size, this.size);
      onAccepted({
        score: meanConfidence(larger, this.#settings.mask_threshold), pixels: this.inside(larger),
      });
    }, onDecided);
    return merger.result().map(({ categoryIndex, ...segment }, i) => {
      const { id, name } = this.#network.categories[categoryIndex];
      return { id: i + 1, categoryId: id, name, ...segment };
    });
  }

  // Returns which pixels of a mask are above the threshold, as bytes.
  inside(mask) {
    const threshold = Math.fround(this.#settings.mask_threshold);
    return Uint8Array.from(mask, (prob) => (prob > threshold ? 1 : 0));
  }
}
