// Candidates: local maxima of the proposal map, as in adaptis/inference/proposals.py, which says what
// they are.  Comparisons are made with 32 bits as there.

const FIRST_LEVEL = Math.fround(0.99);

// Returns the maxima [{row, col}] in the order in which the search finds them.
export function findProposals(prob, { height, width }, { threshold, climb, step }) {
  const levels = fallingLevels(Math.fround(threshold), Math.fround(step));
  const taken = new Uint8Array(height * width);
  const found = [];
  for (const peak of orderedMaxima(prob, height, width, levels, Math.fround(threshold))) {
    if (taken[peak]) continue;
    found.push({ row: Math.floor(peak / width), col: peak % width });
    flood(prob, height, width, Math.fround(climb), taken, peak);
  }
  return found;
}

// Smooths a map with a box of side x side pixels; beyond the border it is mirrored.
export function blur(map, { height, width }, side) {
  if (side <= 1) return map;
  const [columns, rows] = [windows(width, side), windows(height, side)];
  const sums = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (const k of columns[x]) sums[y * width + x] += map[y * width + k];
    }
  }
  const result = new Float32Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const k of rows[y]) sum += sums[k * width + x];
      result[y * width + x] = sum / (side * side);
    }
  }
  return result;
}

function windows(length, side) {
  const anchor = Math.floor(side / 2);
  return Array.from({ length }, (_, i) => Array.from({ length: side }, (__, k) => (
    mirrored(i - anchor + k, length))));
}

function mirrored(position, length) {
  if (length === 1) return 0;
  while (position < 0 || position >= length) {
    position = position < 0 ? -position : 2 * (length - 1) - position;
  }
  return position;
}

function fallingLevels(threshold, step) {
  const levels = [];
  for (let level = FIRST_LEVEL; level > threshold; level = Math.fround(level - step)) {
    levels.push(level);
  }
  return levels;
}

function orderedMaxima(prob, height, width, levels, threshold) {
  const byLevel = levels.map(() => []);
  const lowest = levels.length ? levels[levels.length - 1] : Infinity;
  for (let i = 0; i < prob.length; i++) {
    if (prob[i] >= lowest && isMaximum(prob, height, width, i, threshold)) {
      byLevel[levels.findIndex((level) => prob[i] >= level)].push(i);
    }
  }
  return byLevel.flat();
}

function isMaximum(prob, height, width, i, threshold) {
  const here = prob[i];
  let holds = here >= threshold;
  visitNeighbours(i, height, width, (there) => {
    if (prob[there] > here || prob[there] < threshold) holds = false;
  });
  return holds;
}

// Takes every free pixel that can be reached by steps down, or up by less than climb.
function flood(prob, height, width, climb, taken, start) {
  const waiting = [start];
  taken[start] = 1;
  while (waiting.length) {
    const here = waiting.pop();
    const limit = Math.fround(prob[here] + climb);
    visitNeighbours(here, height, width, (there) => {
      if (taken[there] || prob[there] >= limit) return;
      taken[there] = 1;
      waiting.push(there);
    });
  }
}

function visitNeighbours(i, height, width, visit) {
  const [row, col] = [Math.floor(i / width), i % width];
  const [bottom, right] = [Math.min(row + 1, height - 1), Math.min(col + 1, width - 1)];
  for (let y = Math.max(row - 1, 0); y <= bottom; y++) {
    for (let x = Math.max(col - 1, 0); x <= right; x++) {
      if (y !== row || x !== col) visit(y * width + x);
    }
  }
}
