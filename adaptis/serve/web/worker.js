// Computes in a separate thread, so that the page stays responsive.  engine.js sends {id, method, args} and gets
// {id, event} any number of times, and then {id, result} or {id, error}.

import { warningAbout } from './likeness.js';
import { encodeCounts } from './masks.js';
import { loadNetwork } from './network.js';
import { decodePicture } from './picture.js';
import { openPicture } from './segmenter.js';

const networks = new Map();   // a promise for each folder
const aborted = new Set();    // ids of calls
let picture = null;

const methods = {
  async open({ blob, folder, maxSide }) {
    const { planes, size } = await decodePicture(blob, maxSide);
    const network = await networkOf(folder);
    picture = await openPicture(network, planes, size);
    const warning = warningAbout(planes, size, network.statistics, network.settings);
    return { ...size, pointProposals: picture.hasProposals, warning };
  },

  async mask({ x, y }) {
    const current = opened();
    const { score, probabilities, ...category } = await current.maskAt(x, y);
    const mask = maskOf(current.inside(probabilities), current.size);
    return { score: rounded(score), ...category, mask };
  },

  proposals() {
    return opened().proposals().map(({ x, y, score }) => ({ x, y, score: rounded(score) }));
  },

  async segment(_, id) {
    const { size } = opened();
    let found = 0;
    const segments = await picture.segment(({ score, pixels }) => {
      found += 1;
      postMessage({ id, event: { segment: {
        id: found, categoryId: null, name: 'object', isthing: true, score: rounded(score),
        mask: maskOf(pixels, size),
      } } });
    }, async (done, total) => {
      postMessage({ id, event: { progress: [done, total] } });
      await breathe();
      if (aborted.delete(id)) throw new Error('The segmentation was stopped.');
    });
    return { segments: segments.map(({ pixels, score, ...segment }) => (
      { ...segment, score: rounded(score), mask: maskOf(pixels, size) })) };
  },

  abort({ call }) {
    aborted.add(call);
  },

  close() {
    picture = null;
  },
};

onmessage = async ({ data: { id, method, args } }) => {
  try {
    postMessage({ id, result: await methods[method](args, id) });
  } catch (error) {
    postMessage({ id, error: error.message });
  } finally {
    aborted.delete(id);
  }
};

function opened() {
  if (!picture) throw new Error('There is no image yet: choose or upload one.');
  return picture;
}

// A folder that could not be loaded is tried again the next time.
function networkOf(folder) {
  if (!networks.has(folder)) {
    const loading = loadNetwork(new URL(folder));
    networks.set(folder, loading);
    loading.catch(() => networks.delete(folder));
  }
  return networks.get(folder);
}

// Lets the calls that wait go first, for instance clicks while everything is segmented.
function breathe() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

function maskOf(pixels, { height, width }) {
  return { width, height, counts: encodeCounts(pixels, width, height) };
}

function rounded(score) {
  return Math.round(score * 1e4) / 1e4;
}
