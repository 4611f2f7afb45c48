// The files that can be saved.  A scene is
//   {name, image, width, height, objects, stuff}
// with the name of the image, its pixels at full size (ImageBitmap), and the segments, all
// {id, label, categoryId, score, color, pixels}, whose pixels have the size of the image.

import { encodeCounts, findContours, measure } from './masks.js';

const TINT = 0.55;
const TINT_STUFF = 0.3;

// The image with its segments tinted.
export function overlayPng(scene) {
  const { canvas, context } = makeCanvas(scene);
  context.drawImage(scene.image, 0, 0, scene.width, scene.height);
  const data = context.getImageData(0, 0, scene.width, scene.height);
  for (const segment of scene.stuff) tint(data.data, segment, TINT_STUFF);
  for (const segment of scene.objects) tint(data.data, segment, TINT);
  context.putImageData(data, 0, 0);
  return toBlob(canvas);
}

// The ids of the objects as colours, id = R + 256 G + 256^2 B; 0 = none.
export function idsPng(scene) {
  return idPicture(scene, scene.objects);
}

// The ids of all segments as colours, as in the PNGs of COCO panoptic.
export function panopticPng(scene) {
  return idPicture(scene, [...scene.objects, ...scene.stuff]);
}

// The objects as annotations of COCO, with uncompressed run lengths.
export function cocoJson(scene) {
  return toJson({
    images: [imageEntry(scene)],
    annotations: scene.objects.map((segment) => {
      const { area, box } = measure(segment.pixels, scene.width);
      const counts = encodeCounts(segment.pixels, scene.width, scene.height);
      return {
        id: segment.id, image_id: 1, category_id: segment.categoryId, iscrowd: 0, area, bbox: box,
        segmentation: { size: [scene.height, scene.width], counts }, score: segment.score,
      };
    }),
    categories: categories(scene.objects),
  });
}

// The objects as polygons for labelme.  An object of several parts is several polygons of one
// group; labelme's polygons have no holes.
export function labelmeJson(scene) {
  const shapes = scene.objects.flatMap((segment) => {
    const parts = findContours(segment.pixels, scene.width, scene.height).filter((c) => c.outer);
    return parts.map(({ points }) => ({
      label: segment.label, points, group_id: segment.id, shape_type: 'polygon', flags: {},
      description: `confidence ${segment.score}`,
    }));
  });
  return toJson({
    version: '5.0.1', flags: {}, shapes, imagePath: scene.name, imageData: null,
    imageHeight: scene.height, imageWidth: scene.width,
  });
}

// The segments of panopticPng, as COCO panoptic describes them.
export function panopticJson(scene) {
  const segments = [...scene.objects, ...scene.stuff];
  const owners = ownership(scene, segments);
  const infos = segments.map((segment) => {
    const own = segment.pixels.map((inside, i) => (inside && owners[i] === segment.id ? 1 : 0));
    const { area, box } = measure(own, scene.width);
    return { id: segment.id, category_id: segment.categoryId, area, bbox: box, iscrowd: 0,
             score: segment.score };
  });
  return toJson({
    images: [imageEntry(scene)],
    annotations: [{ image_id: 1, file_name: `${stem(scene.name)}_panoptic.png`,
                    segments_info: infos.filter((info) => info.area) }],
    categories: categories(segments),
  });
}

export function stem(name) {
  return name.replace(/\.[^.]*$/, '') || name;
}

function imageEntry(scene) {
  return { id: 1, file_name: scene.name, width: scene.width, height: scene.height };
}

function categories(segments) {
  const byId = new Map(segments.map((segment) => [segment.categoryId, {
    id: segment.categoryId, name: segment.label, isthing: segment.isthing ? 1 : 0,
    supercategory: segment.label,
  }]));
  return [...byId.values()].sort((a, b) => a.id - b.id);
}

// The segment of each pixel; where segments overlap, the first one.
function ownership(scene, segments) {
  const owners = new Uint32Array(scene.width * scene.height);
  for (const { id, pixels } of segments) {
    for (let i = 0; i < pixels.length; i++) if (pixels[i] && !owners[i]) owners[i] = id;
  }
  return owners;
}

function idPicture(scene, segments) {
  const { canvas, context } = makeCanvas(scene);
  const data = context.createImageData(scene.width, scene.height);
  ownership(scene, segments).forEach((id, i) => {
    data.data.set([id & 255, (id >> 8) & 255, (id >> 16) & 255, 255], 4 * i);
  });
  context.putImageData(data, 0, 0);
  return toBlob(canvas);
}

function tint(data, { pixels, color }, alpha) {
  for (let i = 0; i < pixels.length; i++) {
    if (!pixels[i]) continue;
    for (let k = 0; k < 3; k++) {
      data[4 * i + k] = data[4 * i + k] * (1 - alpha) + color[k] * alpha;
    }
  }
}

function makeCanvas({ width, height }) {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  return { canvas, context: canvas.getContext('2d', { willReadFrequently: true }) };
}

function toBlob(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob)
                                  : reject(new Error('The image is too large to save.'))),
                  'image/png');
  });
}

function toJson(value) {
  return new Blob([`${JSON.stringify(value)}\n`], { type: 'application/json' });
}
