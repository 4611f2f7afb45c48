// The greedy algorithm: candidates become masks, as in adaptis/inference/greedy.py.  In this file they are
// evaluated one by one.
//
// accept(mask) is called with each accepted mask, and await decided(done, total) with each
// candidate.

import { blur, findProposals } from './proposals.js';
import { PythonRandom } from './random.js';

export async function selectMasks(encoded, settings, accept, decided) {
  const select = settings.sampling === 'random' ? selectRandom : selectProposals;
  await select(encoded, settings, accept, decided);
}

// Returns the map in which the maxima are searched.
export function proposalMap(encoded, settings) {
  const free = isThing(encoded, settings);
  const map = encoded.proposals.map((prob, i) => prob * free[i]);
  return blur(map, encoded.size, settings.proposal_blur).map(
    (prob) => Math.min(Math.max(prob, 0), 1));
}

export function searchProposals(map, size, settings) {
  return findProposals(map, size, {
    threshold: settings.proposal_threshold, climb: settings.proposal_climb,
    step: settings.proposal_step,
  });
}

// Returns the mean of the probabilities above a threshold, 0 if there are none.
export function meanConfidence(mask, threshold) {
  const limit = Math.fround(threshold);
  let [sum, count] = [0, 0];
  for (const prob of mask) {
    if (prob > limit) {
      sum += prob;
      count += 1;
    }
  }
  return count ? sum / count : 0;
}

async function selectProposals(encoded, settings, accept, decided) {
  const map = proposalMap(encoded, settings);
  const points = searchProposals(map, encoded.size, settings).slice(
    0, limitByArea(settings.max_candidates, 100, encoded.size));
  const occupied = new Uint8Array(map.length);
  for (const [index, point] of points.entries()) {
    if (!occupied[point.row * encoded.size.width + point.col]) {
      const mask = cutMask(await encoded.maskAt(point), point, encoded.size, settings);
      takeIfFree(mask, occupied, settings, accept);
    }
    await decided(index + 1, points.length);
  }
}

// Accepts the mask and occupies its pixels, unless it is tiny or mostly occupied.
function takeIfFree(mask, occupied, settings, accept) {
  const inside = pixelsAbove(mask, settings.mask_threshold);
  const area = inside.length;
  if (area === 0 || area < settings.min_area) return;
  const lost = inside.filter((i) => occupied[i]).length;
  if (lost / area >= settings.overlap_threshold) return;
  accept(mask);
  for (const i of inside) occupied[i] = 1;
}

async function selectRandom(encoded, settings, accept, decided) {
  const random = new PythonRandom(settings.seed);
  const free = isThing(encoded, settings);
  const limit = limitByArea(settings.num_iterations, 40, encoded.size);
  for (let iteration = 0; iteration < limit; iteration++) {
    const pixels = [...free.keys()].filter((i) => free[i]);
    if (!pixels.length) return;
    const mask = await bestRandomMask(encoded, pixels, random, settings);
    const inside = pixelsAbove(mask, settings.mask_threshold);
    const left = inside.filter((i) => free[i]).length;
    if (inside.length && left / inside.length >= settings.overlap_threshold) {
      accept(mask);
      for (const i of inside) free[i] = 0;
    }
    await decided(iteration + 1, limit);
  }
}

async function bestRandomMask(encoded, pixels, random, settings) {
  const { width } = encoded.size;
  let best = null;
  for (const k of random.sample(pixels.length, Math.min(settings.num_candidates, pixels.length))) {
    const point = { row: Math.floor(pixels[k] / width), col: pixels[k] % width };
    const mask = await encoded.maskAt(point);
    const confidence = meanConfidence(mask, settings.confident_prob);
    if (!best || confidence > best.confidence) best = { mask, confidence, point };
  }
  return cutMask(best.mask, best.point, encoded.size, settings);
}

function isThing(encoded, settings) {
  const threshold = Math.fround(settings.things_threshold);
  const likely = new Uint8Array(encoded.size.height * encoded.size.width);
  for (const map of encoded.things) {
    map.forEach((prob, i) => { if (prob >= threshold) likely[i] = 1; });
  }
  return likely;
}

function pixelsAbove(mask, threshold) {
  const limit = Math.fround(threshold);
  const found = [];
  mask.forEach((prob, i) => { if (prob > limit) found.push(i); });
  return found;
}

// Returns the mask inside the square around its point, 0 elsewhere, if there is a radius.
function cutMask(mask, { row, col }, { width }, { cut_radius: radius }) {
  if (radius <= 0) return mask;
  return mask.map((prob, i) => (
    Math.abs(Math.floor(i / width) - row) <= radius && Math.abs((i % width) - col) <= radius
      ? prob : 0));
}

function limitByArea(limit, usual, { height, width }) {
  if (limit !== null) return limit;
  return Math.max(usual, Math.floor((usual * height * width) / 96 ** 2));
}
