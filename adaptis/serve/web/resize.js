// Resizing as in adaptis/inference/upsample.py and rescale.py.  Maps are Float32Array, row by row;
// a size is {height, width}.

// Rounds half to even, as Python and OpenCV do.
export function roundEven(value) {
  const rounded = Math.round(value);
  return Math.abs(value % 1) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

// Returns the size of the network's input for an image; the aspect ratio is kept.
export function networkSize({ height, width }, settings) {
  let scale = 1;
  if (settings.short_side !== null) scale = settings.short_side / Math.min(height, width);
  if (settings.max_side !== null) scale = Math.min(scale, settings.max_side / Math.max(height, width));
  return scaled({ height, width }, scale);
}

// Returns the size of an image whose longer side has at most so many pixels.
export function limitedSize({ height, width }, maxSide) {
  return scaled({ height, width }, Math.min(1, maxSide / Math.max(height, width)));
}

function scaled({ height, width }, scale) {
  return {
    height: Math.max(1, roundEven(height * scale)), width: Math.max(1, roundEven(width * scale)),
  };
}

// Enlarges a map: bilinear, aligned corners.
export function upsample(map, from, to) {
  if (same(from, to)) return map;
  return sample(map, from, to, alignedRows(from.width, to.width),
                alignedRows(from.height, to.height));
}

// Resizes a map: by averaging if it shrinks, else bilinear; pixel centres lie at i + 0.5.
export function resize(map, from, to) {
  if (same(from, to)) return map;
  if (to.height * to.width < from.height * from.width) {
    return average(map, from, to, coverage(from.width, to.width), coverage(from.height, to.height));
  }
  return sample(map, from, to, centredRows(from.width, to.width),
                centredRows(from.height, to.height));
}

// Resizes a plane of an image, whose values are bytes.
export function resizeBytes(plane, from, to) {
  if (same(from, to)) return plane;
  if (to.height * to.width < from.height * from.width) {
    return resize(plane, from, to).map(roundEven);
  }
  return sampleBytes(plane, from, to, centredRows(from.width, to.width, Math.fround),
                     centredRows(from.height, to.height, Math.fround));
}

// Moves a point {row, col} from an image of one size to another.
export function movePoint({ row, col }, from, to) {
  if (same(from, to)) return { row, col };
  const move = (value, length, newLength) => Math.fround(Math.min(Math.max(
    Math.fround(value + 0.5) * (newLength / length) - 0.5, 0), newLength - 1));
  return { row: move(row, from.height, to.height), col: move(col, from.width, to.width) };
}

export function same(a, b) {
  return a.height === b.height && a.width === b.width;
}

// Row i of the result is 1 - share[i] of row before[i] and the rest of after[i].  The positions are
// computed with 32 bits throughout.
function alignedRows(length, newLength) {
  const rows = emptyRows(newLength);
  const step = Math.fround((length - 1) / Math.max(newLength - 1, 1));
  for (let i = 0; i < newLength; i++) {
    const position = Math.fround(i * step);
    rows.before[i] = Math.trunc(position);
    rows.after[i] = Math.min(rows.before[i] + 1, length - 1);
    rows.share[i] = position - rows.before[i];
  }
  return rows;
}

function centredRows(length, newLength, rounded = Number) {
  const rows = emptyRows(newLength);
  const scale = 1 / (newLength / length);
  for (let i = 0; i < newLength; i++) {
    const position = rounded((i + 0.5) * scale - 0.5);
    const before = Math.floor(position);
    rows.before[i] = Math.max(before, 0);
    rows.after[i] = Math.min(before + 1, length - 1);
    rows.share[i] = position - before;
  }
  return rows;
}

function emptyRows(length) {
  return {
    before: new Int32Array(length), after: new Int32Array(length), share: new Float32Array(length),
  };
}

function sample(map, from, to, columns, rows) {
  const wide = new Float32Array(from.height * to.width);
  for (let y = 0; y < from.height; y++) {
    for (let x = 0; x < to.width; x++) {
      const share = columns.share[x];
      wide[y * to.width + x] = mix(map[y * from.width + columns.before[x]],
                                   map[y * from.width + columns.after[x]], share);
    }
  }
  const result = new Float32Array(to.height * to.width);
  for (let y = 0; y < to.height; y++) {
    const [above, below] = [rows.before[y] * to.width, rows.after[y] * to.width];
    for (let x = 0; x < to.width; x++) {
      result[y * to.width + x] = mix(wide[above + x], wide[below + x], rows.share[y]);
    }
  }
  return result;
}

// OpenCV resizes bytes in whole numbers; shares have 11 bits.  At the border, it adds up the parts of
// the one column as a whole, but rounds those of the one row.
function sampleBytes(plane, from, to, columns, rows) {
  const bits = (share) => [roundEven(Math.fround(1 - share) * 2048), roundEven(share * 2048)];
  const result = new Float32Array(to.height * to.width);
  for (let x = 0; x < to.width; x++) {
    const [first, second] = bits(columns.share[x]);
    const at = (row) => (first * plane[row * from.width + columns.before[x]]
                         + second * plane[row * from.width + columns.after[x]]) >> 4;
    for (let y = 0; y < to.height; y++) {
      const [upper, lower] = bits(rows.share[y]);
      result[y * to.width + x] = (((upper * at(rows.before[y])) >> 16)
                                  + ((lower * at(rows.after[y])) >> 16) + 2) >> 2;
    }
  }
  return result;
}

function mix(first, second, share) {
  return Math.fround(Math.fround(1 - share) * first) + Math.fround(share * second);
}

// Returns for each new position [[old position, weight], ...]: which part of it the old ones cover.
function coverage(length, newLength) {
  const scale = length / newLength;
  return Array.from({ length: newLength }, (_, i) => {
    const [start, end] = [i * scale, (i + 1) * scale];
    const parts = [];
    for (let k = Math.floor(start); k < Math.min(end, length); k++) {
      const covered = Math.min(k + 1, end) - Math.max(k, start);
      if (covered > 1e-3) parts.push([k, covered]);
    }
    const total = parts.reduce((sum, [, covered]) => sum + covered, 0);
    return parts.map(([k, covered]) => [k, Math.fround(covered / total)]);
  });
}

// Sums have 32 bits, as OpenCV's have: a byte that lies between two is then rounded like there.
function average(map, from, to, columns, rows) {
  const narrow = new Float32Array(from.height * to.width);
  for (let y = 0; y < from.height; y++) {
    columns.forEach((parts, x) => {
      let sum = 0;
      for (const [k, weight] of parts) {
        sum = Math.fround(sum + Math.fround(weight * map[y * from.width + k]));
      }
      narrow[y * to.width + x] = sum;
    });
  }
  const result = new Float32Array(to.height * to.width);
  rows.forEach((parts, y) => {
    for (let x = 0; x < to.width; x++) {
      let sum = 0;
      for (const [k, weight] of parts) {
        sum = Math.fround(sum + Math.fround(weight * narrow[k * to.width + x]));
      }
      result[y * to.width + x] = sum;
    }
  });
  return result;
}
