// Decode an image in the browser, rotated according to its EXIF tag as browsers show it.

import { limitedSize, resizeBytes } from './resize.js';

const MAX_PIXELS = 50_000_000;
const REFUSED = 'The image cannot be read: it must be a whole PNG, JPEG, WebP or BMP file.';

// Returns {planes, size}: red, green and blue as Float32Array of bytes.  An image whose longer side
// has more than maxSide pixels is shrunk.
export async function decodePicture(blob, maxSide) {
  await refuseTruncated(blob);
  const bitmap = await createImageBitmap(blob, {
    colorSpaceConversion: 'none', premultiplyAlpha: 'none',
  }).catch(() => { throw new Error(REFUSED); });
  const size = { height: bitmap.height, width: bitmap.width };
  if (size.height * size.width > MAX_PIXELS) {
    throw new Error(`The image has ${size.width}x${size.height} pixels, more than `
                    + `${MAX_PIXELS.toLocaleString('en')}: make it smaller.`);
  }
  const smaller = limitedSize(size, maxSide);
  return {
    size: smaller, planes: planesOf(bitmap, size).map((p) => resizeBytes(p, size, smaller)),
  };
}

function planesOf(bitmap, { height, width }) {
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return [0, 1, 2].map((channel) => (
    Float32Array.from({ length: height * width }, (_, i) => data[4 * i + channel])));
}

// Browsers show the part of a file that has arrived.
async function refuseTruncated(blob) {
  const head = new Uint8Array(await blob.slice(0, 4).arrayBuffer());
  const tail = new Uint8Array(await blob.slice(Math.max(0, blob.size - 4096)).arrayBuffer());
  const endsWith = (...mark) => tail.some((_, i) => mark.every((byte, k) => tail[i + k] === byte));
  const isPng = head[0] === 0x89 && head[1] === 0x50;
  const isJpeg = head[0] === 0xff && head[1] === 0xd8;
  if ((isPng && !endsWith(0x49, 0x45, 0x4e, 0x44)) || (isJpeg && !endsWith(0xff, 0xd9))) {
    throw new Error('The image is cut short: copy or download it again.');
  }
}
