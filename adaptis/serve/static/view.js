// The image on the page: draws it with masks and points, and reports where the user points.

import { findContours } from './masks.js';

const TINT = 0.55;
const TINT_STUFF = 0.3;
const MOST_HEIGHT = 0.68;   // of the window
const DOT = 4;              // pixels of the screen

export class View {
  #canvas;
  #frame;
  #image = null;
  #size = { width: 1, height: 1 };   // of the masks
  #segments = [];
  #preview = null;
  #points = [];
  #cross = null;
  #drawing = 0;

  constructor(canvas, frame) {
    this.#canvas = canvas;
    this.#frame = frame;
    new ResizeObserver(() => this.#layOut()).observe(frame);
    addEventListener('resize', () => this.#layOut());
  }

  // Shows an image (ImageBitmap) whose masks have the given size.
  setImage(image, size) {
    this.#image = image;
    this.#size = size;
    this.#segments = [];
    this.#preview = this.#cross = null;
    this.#points = [];
    this.#layOut();
  }

  // Shows segments: {pixels, color, isthing, selected}.
  setSegments(segments) {
    this.#segments = segments.map((segment) => this.#prepare(segment));
    this.draw();
  }

  // Shows the mask under the pointer; null = none.
  setPreview(pixels) {
    this.#preview = pixels && this.#prepare({ pixels, color: [255, 255, 255], isthing: true });
    this.draw();
  }

  // Shows points as dots: {x, y}.
  setPoints(points) {
    this.#points = points;
    this.draw();
  }

  // Shows where the keyboard points: {x, y} or null.
  setCross(cross) {
    this.#cross = cross;
    this.draw();
  }

  // Returns the pixel of the masks at a pointer event, or null if it is outside.
  pixelAt(event) {
    const box = this.#canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.#size.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.#size.height);
    const inside = x >= 0 && y >= 0 && x < this.#size.width && y < this.#size.height;
    return inside ? { x, y } : null;
  }

  draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = requestAnimationFrame(() => this.#drawNow());
  }

  #layOut() {
    if (!this.#image) return;
    const { width, height } = this.#size;
    const across = Math.max(1, this.#frame.clientWidth);
    const shown = Math.min(across, (innerHeight * MOST_HEIGHT * width) / height);
    this.#canvas.style.width = `${shown}px`;
    this.#canvas.style.height = `${(shown * height) / width}px`;
    this.#canvas.width = Math.round(shown * devicePixelRatio);
    this.#canvas.height = Math.round((shown * height * devicePixelRatio) / width);
    this.#drawNow();
  }

  #prepare({ pixels, color, isthing, selected = false }) {
    const { width, height } = this.#size;
    const layer = document.createElement('canvas');
    Object.assign(layer, { width, height });
    const context = layer.getContext('2d');
    const data = context.createImageData(width, height);
    const values = [...color, Math.round(255 * (isthing ? TINT : TINT_STUFF))];
    for (let i = 0; i < pixels.length; i++) if (pixels[i]) data.data.set(values, 4 * i);
    context.putImageData(data, 0, 0);
    const outline = new Path2D();
    if (isthing) {
      for (const { points } of findContours(pixels, width, height)) {
        points.forEach(([x, y], i) => (i ? outline.lineTo(x, y) : outline.moveTo(x, y)));
        outline.closePath();
      }
    }
    return { layer, outline, color: `rgb(${color.join(' ')})`, selected };
  }

  #drawNow() {
    if (!this.#image) return;
    const canvas = this.#canvas;
    const context = canvas.getContext('2d');
    const scale = canvas.width / this.#size.width;
    context.imageSmoothingEnabled = scale < 2;
    context.drawImage(this.#image, 0, 0, canvas.width, canvas.height);
    for (const segment of this.#segments) this.#drawSegment(context, scale, segment, 1.5);
    if (this.#preview) this.#drawSegment(context, scale, this.#preview, 1.5);
    for (const point of this.#points) this.#drawDot(context, scale, point);
    if (this.#cross) this.#drawCross(context, scale);
  }

  #drawSegment(context, scale, { layer, outline, color, selected }, line) {
    const { width, height } = this.#canvas;
    context.drawImage(layer, 0, 0, width, height);
    context.save();
    context.scale(scale, scale);
    const thin = (line * devicePixelRatio) / scale;
    if (selected) stroke(context, outline, '#fff', thin * 4);
    stroke(context, outline, '#000', thin * 2);
    stroke(context, outline, color, thin);
    context.restore();
  }

  #drawDot(context, scale, { x, y }) {
    context.beginPath();
    const radius = DOT * devicePixelRatio;
    context.arc((x + 0.5) * scale, (y + 0.5) * scale, radius, 0, 2 * Math.PI);
    context.fillStyle = '#ffd400';
    context.strokeStyle = '#000';
    context.lineWidth = devicePixelRatio * 1.5;
    context.fill();
    context.stroke();
  }

  #drawCross(context, scale) {
    const { width, height } = this.#canvas;
    const x = (this.#cross.x + 0.5) * scale;
    const y = (this.#cross.y + 0.5) * scale;
    const lines = new Path2D(`M${x} 0V${height}M0 ${y}H${width}`);
    stroke(context, lines, '#000', 3 * devicePixelRatio);
    stroke(context, lines, '#fff', devicePixelRatio);
  }
}

function stroke(context, path, style, width) {
  context.strokeStyle = style;
  context.lineWidth = width;
  context.stroke(path);
}
