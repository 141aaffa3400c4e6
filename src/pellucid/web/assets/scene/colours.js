"use strict";

/* Pixels as colours: which bands, how they are stretched, and pictures of radar and uncertainty. */

const PRESETS = [
  ["True colour", "B04", "B03", "B02"],
  ["Colour infrared", "B08", "B04", "B03"],
  ["Short-wave infrared", "B12", "B8A", "B04"],
  ["Farmland", "B11", "B08", "B02"],
  ["Bare soil and rock", "B12", "B11", "B02"],
  ["Colour", "Red", "Green", "Blue"],
];
const OPTICAL = ["before", "after", "reference", "truth"];
/* Weight of what was painted above which a pixel lies within the outline. */
const MOSTLY = 0.5;
/* Reflectance shown as white where all scenes are shown alike. */
const FIXED_TOP = 0.4;
/* Share of the pixels that "auto" shows as black and as white, and pixels that are looked at. */
const TAIL = 0.01;
const NUM_LOOKED_AT = 40000;
/* dB shown as 0 and 1. */
const RADAR_DB = { VV: [-25, 0], VH: [-32.5, 0] };

/** Whether a layer is a picture of 8 bit, which is shown as it is. */
function isPicture(layer) {
  return layer.planes[0].values instanceof Uint8Array;
}

/** Return the combinations that the bands allow. */
function presetsOf(names) {
  const found = PRESETS.filter(([, ...bands]) => bands.every((band) => names.includes(band)));
  if (found.length) return found;
  const at = (i) => names[Math.min(i, names.length - 1)];
  return [names.length < 3 ? ["First band", at(0), at(0), at(0)] : ["First bands", at(0), at(1), at(2)]];
}

/** Return the share of values below which lie `low` and above which lie `high` of a band; null without any. */
function middleOf(layer, band, tail = TAIL) {
  const plane = layer.planes[band];
  const every = Math.max(1, Math.floor(plane.values.length / NUM_LOOKED_AT));
  const found = [];
  const look = (i) => {
    const value = physical(layer, band, plane.values[i]);
    if (i % every === 0 && Number.isFinite(value)) found.push(value);
  };
  if (layer.mask) eachMask(layer.mask, plane, (said, i) => said !== MISSING && look(i));
  else for (let i = 0; i < plane.values.length; i += every) look(i);
  if (!found.length) return null;
  found.sort((a, b) => a - b);
  const at = (share) => found[Math.round(share * (found.length - 1))];
  return [at(tail), at(1 - tail)];
}

/** Return the position of each band in a layer; where one is missing, those of another combination. */
function channelsOf(layer, bands) {
  const names = layer.bands.map((band) => band.name);
  const at = bands.map((band) => names.indexOf(band));
  return at.includes(-1) ? presetsOf(names)[0].slice(1).map((band) => names.indexOf(band)) : at;
}

/** Return a canvas with a pixel per pixel that the page holds, as the view says. */
function compose(layer, view) {
  const finest = layer.planes.reduce((a, b) => (b.step < a.step ? b : a));
  const canvas = make("canvas", { width: finest.width, height: finest.height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(finest.width, finest.height);
  const paint = OPTICAL.includes(layer.kind) ? paintBands : layer.kind === "radar" ? paintRadar : paintRamp;
  paint(layer, view, image.data, finest);
  if (layer.mask)
    eachMask(layer.mask, finest, (said, i) => {
      if (said === MISSING) image.data[4 * i + 3] = 0;
    });
  context.putImageData(image, 0, 0);
  canvas.step = finest.step;
  return canvas;
}

/** Call with the position on the finest plane and those on some planes, pixel by pixel. */
function eachPixel(planes, finest, call) {
  const at = planes.map(() => 0);
  const every = planes.map((plane) => plane.step / finest.step);
  for (let row = 0, i = 0; row < finest.height; row++)
    for (let column = 0; column < finest.width; column++, i++) {
      for (let p = 0; p < planes.length; p++)
        at[p] = Math.floor(row / every[p]) * planes[p].width + Math.floor(column / every[p]);
      call(i, at);
    }
}

function paintBands(layer, view, pixels, finest) {
  const channels = channelsOf(layer, view.bands);
  const planes = channels.map((band) => layer.planes[band]);
  const shades = channels.map((band, c) => shadeOf(layer, band, view.low[c], view.high[c], view.gamma));
  eachPixel(planes, finest, (i, at) => {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = shades[c](planes[c].values[at[c]]);
    pixels[4 * i + 3] = 255;
  });
}

/** Return a function from a stored value to 0 to 255. */
function shadeOf(layer, band, low, high, gamma) {
  const span = Math.max(high - low, 1e-9);
  const shade = (value) => {
    const share = Math.max(0, Math.min(1, (physical(layer, band, value) - low) / span));
    return Math.round(255 * share ** (1 / gamma));
  };
  if (!(layer.planes[band].values instanceof Uint16Array)) return shade;
  const table = Uint8Array.from({ length: 65536 }, (_, value) => shade(value));
  return (value) => table[value];
}

function paintRadar(layer, view, pixels, finest) {
  const unit = layer.bands.map(({ name }, band) => {
    const [low, high] = RADAR_DB[name] ?? middleOf(layer, band) ?? [0, 1];
    const decade = { "linear power": 10, amplitude: 20 }[layer.unit];
    const decibel = decade ? (x) => decade * Math.log10(Math.max(x, 1e-9)) : (x) => x;
    return (value) => Math.max(0, Math.min(1, (decibel(physical(layer, band, value)) - low) / (high - low)));
  });
  const planes = layer.planes.slice(0, 2);
  eachPixel(planes, finest, (i, at) => {
    const [vv, vh] = planes.map((plane, p) => unit[p](plane.values[at[p]]));
    const colour = vh === undefined ? [vv, vv, vv] : [vv, vh, Math.max(0, Math.min(1, vv - vh + 0.5))];
    colour.forEach((share, c) => (pixels[4 * i + c] = Math.round(255 * share)));
    pixels[4 * i + 3] = 255;
  });
}

function paintRamp(layer, view, pixels, finest) {
  const channels = layer.kind === "painted" ? [0] : [...new Set(channelsOf(layer, view.bands))];
  const planes = channels.map((band) => layer.planes[band]);
  const high = rampTop(layer, view);
  eachPixel(planes, finest, (i, at) => {
    const mean = channels.reduce((sum, band, p) => sum + physical(layer, band, planes[p].values[at[p]]), 0);
    const [red, green, blue] = rampAt(mean / channels.length / high);
    pixels.set([red, green, blue, Number.isFinite(mean) ? 255 : 0], 4 * i);
  });
}

/** Return what the end of the ramp stands for. */
function rampTop(layer, view) {
  if (layer.kind === "painted") return 1;
  const tops = [...new Set(channelsOf(layer, view.bands))].map((band) => middleOf(layer, band)?.[1] ?? 0);
  return tops.reduce((a, b) => a + b, 0) / tops.length || 1;
}

/**
 * Return a test whether pixel i and those around it were mostly painted, and the plane that it belongs to; null where
 * nothing is known. Single pixels, of which outlines would be too many to see anything, do not count.
 */
function paintedPixels(layers) {
  const given = layers.find(({ kind }) => kind === "painted")?.planes[0];
  if (given) return { plane: given, isPainted: meanAround(given, (value) => value / 255, MOSTLY) };
  const mask = layers.find(({ kind }) => kind === "after")?.mask;
  return mask?.values.includes(AS_BEFORE) ? { plane: mask, isPainted: meanAround(mask, (said) => said === 1, MOSTLY) } : null;
}

/** Return a test whether the mean weight of pixel i and its neighbours is above a limit. */
function meanAround({ values, width, height }, weigh, limit) {
  return (i) => {
    const [column, row] = [i % width, Math.floor(i / width)];
    let [sum, all] = [0, 0];
    for (let r = Math.max(0, row - 1); r <= Math.min(height - 1, row + 1); r++)
      for (let c = Math.max(0, column - 1); c <= Math.min(width - 1, column + 1); c++) {
        sum += weigh(values[r * width + c]);
        all++;
      }
    return sum > limit * all;
  };
}

/**
 * Return the edges around what was painted, [column, row, column, row] each, in pixels of the file, and the share
 * of the scene that was; null where it is not known. What reaches the border of the scene is closed there.
 */
function outline(layers) {
  const found = paintedPixels(layers);
  if (!found) return null;
  const { width, height, step } = found.plane;
  const painted = Uint8Array.from({ length: width * height }, (_, i) => found.isPainted(i));
  const edges = [];
  for (let row = 0, i = 0; row < height; row++)
    for (let column = 0; column < width; column++, i++) {
      const [x, y] = [column * step, row * step];
      if (painted[i] !== (column ? painted[i - 1] : 0)) edges.push([x, y, x, y + step]);
      if (painted[i] !== (row ? painted[i - width] : 0)) edges.push([x, y, x + step, y]);
      if (painted[i] && column === width - 1) edges.push([x + step, y, x + step, y + step]);
      if (painted[i] && row === height - 1) edges.push([x, y + step, x + step, y + step]);
    }
  return { edges, share: painted.reduce((sum, each) => sum + each, 0) / painted.length };
}
