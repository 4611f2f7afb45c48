// Check whether an image resembles those that the network was trained on.  This is
// adaptis/inference/likeness.py for the browser; that file explains the numbers.

import { limitedSize, resizeBytes } from './resize.js';

const SIDE = 256;
const LEVELS = 4;
const LEAST_DISTANCE = 0.55;
const BEYOND = 1.25;
const SIZE_FACTOR = 4;

// Returns a sentence if it does not, else null.  `statistics` are those of the export, if any.
export function warningAbout(planes, size, statistics, settings) {
  const difference = statistics && (
    sizeDifference(size, statistics, settings) || colorDifference(planes, size, statistics));
  return difference ? 'This image is unlike all images that the network was trained on: '
    + `${difference}. Do not trust its masks.` : null;
}

// Returns the colour histogram of an image, with sum 1.
export function colorHistogram(planes, size) {
  const smaller = limitedSize(size, SIDE);
  const [red, green, blue] = planes.map((plane) => (
    resizeBytes(plane, size, smaller).map((byte) => Math.floor((byte * LEVELS) / 256))));
  const shares = new Float64Array(LEVELS ** 3);
  red.forEach((_, i) => { shares[(red[i] * LEVELS + green[i]) * LEVELS + blue[i]] += 1 / red.length; });
  return shares;
}

function sizeDifference({ height, width }, { sizes: [low, high] }, settings) {
  const longer = Math.max(height, width);
  const atOwnSize = settings.short_side === null && settings.max_side === null;
  if (!atOwnSize || (longer >= low / SIZE_FACTOR && longer <= high * SIZE_FACTOR)) return null;
  const range = low === high ? low : `${low} to ${high}`;
  return `it is ${width}x${height} pixels, but their longer sides have ${range}`;
}

function colorDifference(planes, size, { colors, farthest }) {
  const shares = colorHistogram(planes, size);
  const distance = shares.reduce((sum, share, i) => sum + Math.abs(share - colors[i]), 0) / 2;
  if (distance <= Math.max(LEAST_DISTANCE, BEYOND * farthest)) return null;
  const percent = (value) => `${(100 * (1 - value)).toFixed(0)} %`;
  return `its colours match ${percent(distance)} of their mean histogram, whereas every training image `
    + `matches at least ${percent(farthest)}`;
}
