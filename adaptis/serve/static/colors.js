// Colours of segments: [red, green, blue], 0 to 255.

// Bright colours whose hues differ by the golden ratio of the circle, so that neighbours differ.
export function distinctColor(index) {
  return hueColor((index * 0.618034 + 0.52) % 1, [0.95, 0.6, 0.8][index % 3], 1);
}

export function stuffColor(index) {
  return hueColor((index * 0.618034 + 0.3) % 1, 0.35, 0.8);
}

function hueColor(hue, saturation, value) {
  return [5, 3, 1].map((shift) => {
    const k = (shift + hue * 6) % 6;
    const part = Math.max(0, Math.min(k, 4 - k, 1));
    return Math.round(255 * value * (1 - saturation * part));
  });
}
