// Runs the scripts of the page in Node.js: reads questions as JSON, and answers them as JSON.

import { readFileSync } from 'node:fs';

import { selectMasks } from './greedy.js';
import { warningAbout } from './likeness.js';
import { Merger } from './merge.js';
import { blur, findProposals } from './proposals.js';
import { PythonRandom } from './random.js';
import { limitedSize, movePoint, networkSize, resize, resizeBytes, upsample } from './resize.js';

const floats = (values) => Float32Array.from(values);

const answers = {
  samples({ seed, pairs }) {
    const random = new PythonRandom(seed);
    return pairs.map(([count, wanted]) => random.sample(count, wanted));
  },
  blur: ({ map, size, side }) => [...blur(floats(map), size, side)],
  proposals: ({ map, size, settings }) => (
    findProposals(floats(map), size, settings).map(({ row, col }) => [row, col])),
  upsample: ({ map, from, to }) => [...upsample(floats(map), from, to)],
  resize: ({ map, from, to }) => [...resize(floats(map), from, to)],
  resizeBytes: ({ map, from, to }) => [...resizeBytes(floats(map), from, to)],
  sizes: ({ sizes, settings, maxSide }) => sizes.map(
    (size) => [networkSize(size, settings), limitedSize(size, maxSide)]),
  points: ({ points, from, to }) => points.map(([row, col]) => {
    const moved = movePoint({ row, col }, from, to);
    return [moved.row, moved.col];
  }),
  warnings: ({ pictures, statistics, settings }) => pictures.map(({ planes, size }) => (
    warningAbout(planes.map(floats), size, statistics, settings))),
  async segment({ size, to, stuff, things, proposals, masks, settings }) {
    const encoded = {
      size, stuff: stuff.map(floats), things: things.map(floats), proposals: floats(proposals),
      async maskAt({ row, col }) {
        return floats(masks[(row * 7 + col) % masks.length]);
      },
    };
    const merger = new Merger(encoded, settings, to);
    const told = [];
    await selectMasks(encoded, settings, (mask) => merger.add(mask),
                      (done, total) => told.push([done, total]));
    return { told, segments: merger.result().map((s) => ({ ...s, pixels: [...s.pixels] })) };
  },
};

const results = [];
for (const [name, question] of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  results.push(await answers[name](question));
}
process.stdout.write(JSON.stringify(results));
