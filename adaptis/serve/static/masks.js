// Masks: {width, height, counts} as the engine gives them, or one byte for each pixel, row by row.

// Returns the pixels of a mask as bytes, 1 inside and 0 outside.
export function decodeMask({ width, height, counts }) {
  const pixels = new Uint8Array(width * height);
  let position = 0;
  counts.forEach((count, index) => {
    const end = position + count;
    if (index % 2 === 0) {
      position = end;
      return;
    }
    for (; position < end; position++) {
      pixels[(position % height) * width + Math.floor(position / height)] = 1;
    }
  });
  return pixels;
}

// Returns the run lengths of COCO, column by column; the first run is outside the mask.
export function encodeCounts(pixels, width, height) {
  const counts = [];
  let value = 0;
  let length = 0;
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      if (pixels[y * width + x] !== value) {
        counts.push(length);
        value = 1 - value;
        length = 0;
      }
      length++;
    }
  }
  counts.push(length);
  return counts;
}

// Returns a mask at another size, by its nearest pixels.
export function resizePixels(pixels, width, height, newWidth, newHeight) {
  if (width === newWidth && height === newHeight) return pixels;
  const resized = new Uint8Array(newWidth * newHeight);
  for (let y = 0; y < newHeight; y++) {
    const row = Math.floor(((y + 0.5) * height) / newHeight) * width;
    for (let x = 0; x < newWidth; x++) {
      resized[y * newWidth + x] = pixels[row + Math.floor(((x + 0.5) * width) / newWidth)];
    }
  }
  return resized;
}

// Returns the number of pixels of a mask and its box [x, y, width, height].
export function measure(pixels, width) {
  let [area, left, top, right, bottom] = [0, Infinity, Infinity, -1, -1];
  for (let i = 0; i < pixels.length; i++) {
    if (!pixels[i]) continue;
    const x = i % width;
    const y = (i - x) / width;
    area++;
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  return { area, box: area ? [left, top, right - left + 1, bottom - top + 1] : [0, 0, 0, 0] };
}

const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];   // right, down, left, up

// Returns the borders of a mask as closed polygons {points: [[x, y], ...], outer} along the edges
// of its pixels.  Those around 4-connected parts have outer = true, those around holes false.
export function findContours(pixels, width, height) {
  const leaving = borderEdges(pixels, width, height);
  const left = leaving.slice();
  const contours = [];
  for (let corner = 0; corner < left.length; corner++) {
    for (let step = 0; left[corner]; step++) {
      if (left[corner] & (1 << step)) contours.push(follow(leaving, left, corner, step, width + 1));
    }
  }
  return contours;
}

// Returns for each corner of the pixels, as bits, the steps of the edges that leave it.  An edge
// has the mask on its right.  Two edges leave a corner where two parts of the mask touch.
function borderEdges(pixels, width, height) {
  const leaving = new Uint8Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (!pixels[i]) continue;
      const corner = y * (width + 1) + x;
      if (y === 0 || !pixels[i - width]) leaving[corner] |= 1;
      if (x === width - 1 || !pixels[i + 1]) leaving[corner + 1] |= 2;
      if (y === height - 1 || !pixels[i + width]) leaving[corner + width + 2] |= 4;
      if (x === 0 || !pixels[i - 1]) leaving[corner + width + 1] |= 8;
    }
  }
  return leaving;
}

function follow(leaving, left, start, first, stride) {
  const points = [];
  let doubleArea = 0;
  let [corner, step, before] = [start, first, -1];
  do {
    left[corner] &= ~(1 << step);
    const [x, y] = [corner % stride, Math.floor(corner / stride)];
    const [dx, dy] = STEPS[step];
    if (step !== before) points.push([x, y]);
    doubleArea += x * dy - y * dx;
    corner += dy * stride + dx;
    before = step;
    const only = [1, 2, 4, 8].indexOf(leaving[corner]);
    step = only >= 0 ? only : (step + 1) % 4;   // where parts touch, turn right: stay at this one
  } while (corner !== start || step !== first);
  if (before === first) points.shift();   // the start is in the middle of a straight edge
  return { points, outer: doubleArea > 0 };
}
