// A network that `adaptis export` wrote, run with ONNX Runtime in the browser: features once for each
// image, then a mask for each point, as in adaptis/inference/encoded.py.

import * as ort from './ort/ort.wasm.bundle.min.js';
import { upsample } from './resize.js';

ort.env.wasm.wasmPaths = {
  wasm: new URL('./ort/ort-wasm-simd-threaded.wasm', import.meta.url).href,
};
ort.env.wasm.numThreads = 1;   // more would need headers that few hosts of static pages send
ort.env.logLevel = 'error';

// Returns the network in a folder.
export async function loadNetwork(folder) {
  const manifest = await (await download(new URL('export.json', folder))).json();
  const sessions = {};
  for (const [name, stage] of Object.entries(manifest.stages)) {
    const file = await download(new URL(stage.files.onnx, folder));
    sessions[name] = await startSession(await file.arrayBuffer());
  }
  return new Network(manifest, sessions);
}

class Network {
  #sessions;
  #stages;
  #last = Promise.resolve();

  constructor(manifest, sessions) {
    this.#sessions = sessions;
    this.#stages = manifest.stages;
    this.settings = manifest.inference;
    this.categories = manifest.taxonomy;
    this.statistics = manifest.source.training?.images ?? null;   // of the training images
    this.numStuff = manifest.attributes.num_stuff;
    this.minSide = manifest.attributes.min_side;
    this.hasProposals = 'proposals' in manifest.stages;
  }

  // Encodes an image: three planes of bytes, red, green and blue, with 32 bits each.
  async encode(planes, size) {
    const plain = await encodeOnce(this, planes, size);
    if (!this.settings.flip) return plain;
    const mirrored = planes.map((plane) => mirror(plane, size));
    return flipAveraged(plain, await encodeOnce(this, mirrored, size));
  }

  // Runs a stage, whose inputs are taken from `values` by name; returns its outputs by name.  One
  // stage runs at a time.
  run(stage, values) {
    const { inputs } = this.#stages[stage];
    const feeds = Object.fromEntries(inputs.map(({ name }) => [name, values[name]]));
    const result = this.#last.then(() => this.#sessions[stage].run(feeds));
    this.#last = result.catch(() => {});
    return result.catch((error) => {
      throw new Error('The browser could not run the network, perhaps for lack of memory: use a '
                      + `smaller image (${firstLine(error)}).`);
    });
  }
}

// The outputs of the network for one image:
//   size {height, width}; stuff, things: a map for each class; proposals: a map, or null
//   await maskAt({row, col}) -> the probability that a pixel belongs to the object at the point
// Maps are Float32Array of that size.
async function encodeOnce(network, planes, size) {
  const full = {
    height: Math.max(size.height, network.minSide), width: Math.max(size.width, network.minSide),
  };
  const image = new ort.Tensor('float32', pad(planes, size, full), [1, 3, full.height, full.width]);
  const maps = await network.run('features', { image });
  const enlarge = (tensor) => split(tensor).map(([map, from]) => (
    crop(upsample(map, from, full), full, size)));
  const classes = enlarge((await network.run('semantics', maps)).classes);
  let proposals = null;
  if (network.hasProposals) {
    const [logits] = enlarge((await network.run('proposals', maps)).logits);
    proposals = logits.map((logit) => Math.fround(sigmoid(logit)) ** 2);
  }
  return {
    size, proposals, stuff: classes.slice(0, network.numStuff),
    things: classes.slice(network.numStuff),
    async maskAt({ row, col }) {
      const points = new ort.Tensor('float32', Float32Array.of(row, col), [1, 1, 2]);
      return enlarge((await network.run('points', { ...maps, points })).masks)[0];
    },
  };
}

// The average of an image and its mirror image.
function flipAveraged(plain, mirrored) {
  const { size } = plain;
  const average = (map, other) => {
    const turned = mirror(other, size);
    return map.map((value, i) => Math.fround(value + turned[i]) * 0.5);
  };
  return {
    size,
    stuff: plain.stuff.map((map, k) => average(map, mirrored.stuff[k])),
    things: plain.things.map((map, k) => average(map, mirrored.things[k])),
    proposals: plain.proposals && average(plain.proposals, mirrored.proposals),
    async maskAt({ row, col }) {
      const there = { row, col: size.width - 1 - col };
      return average(await plain.maskAt({ row, col }), await mirrored.maskAt(there));
    },
  };
}

function mirror(map, { height, width }) {
  const turned = new Float32Array(map.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) turned[y * width + x] = map[y * width + width - 1 - x];
  }
  return turned;
}

// Returns the planes one after another; below and on the right, the border is repeated.
function pad(planes, size, full) {
  const padded = new Float32Array(planes.length * full.height * full.width);
  planes.forEach((plane, k) => {
    for (let y = 0; y < full.height; y++) {
      const row = Math.min(y, size.height - 1) * size.width;
      for (let x = 0; x < full.width; x++) {
        padded[(k * full.height + y) * full.width + x] = plane[row + Math.min(x, size.width - 1)];
      }
    }
  });
  return padded;
}

function crop(map, from, to) {
  if (from.height === to.height && from.width === to.width) return map;
  const part = new Float32Array(to.height * to.width);
  for (let y = 0; y < to.height; y++) {
    part.set(map.subarray(y * from.width, y * from.width + to.width), y * to.width);
  }
  return part;
}

// Returns the maps of a tensor (1, K, h, w), and their size.
function split({ data, dims }) {
  const [height, width] = dims.slice(-2);
  return Array.from({ length: data.length / (height * width) }, (_, k) => (
    [data.subarray(k * height * width, (k + 1) * height * width), { height, width }]));
}

function sigmoid(value) {
  return 1 / (1 + Math.exp(-value));
}

async function startSession(model) {
  try {
    return await ort.InferenceSession.create(model, { executionProviders: ['wasm'] });
  } catch (error) {
    throw new Error(`The network cannot be started in this browser (${firstLine(error)}).`);
  }
}

async function download(url) {
  const answer = await fetch(url).catch(() => null);
  if (answer && answer.ok) return answer;
  throw new Error(`${url.pathname} cannot be loaded: reload the page.`);
}

function firstLine(error) {
  return String(error.message || error).split('\n')[0].slice(0, 200);
}
