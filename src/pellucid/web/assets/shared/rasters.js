"use strict";

/* Embedded GeoTIFF files, and the layers whose pixels they hold. */

const MISSING = 0;
const AS_BEFORE = 2;

/** Return bands, width and height of an embedded file; it goes out of the document, which frees memory. */
async function readFile(name) {
  const block = find(`file-${name}`);
  const text = atob(block.textContent);
  block.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const image = await (await GeoTIFF.fromArrayBuffer(bytes.buffer)).getImage();
  return { bands: await image.readRasters(), width: image.getWidth(), height: image.getHeight() };
}

/**
 * Return the layers with their pixels: `planes`, one per band, {values, width, height, step}, and `mask`,
 * the same or null. A pixel of the result that is as before is taken from there.
 */
async function readLayers(data) {
  const layers = [];
  for (const described of data.layers) {
    const layer = { ...described, planes: [], mask: null };
    for (const { file, bands, step } of described.parts) {
      const { bands: values, width, height } = await readFile(file);
      if (bands.length) bands.forEach((band, i) => (layer.planes[band] = { values: values[i], width, height, step }));
      else layer.mask = { values: values[0], width, height, step };
    }
    layers.push(layer);
  }
  const before = layers.find((layer) => layer.kind === "before");
  for (const layer of layers) if (layer.mask && layer.kind === "after") takeOver(layer, before);
  return layers;
}

function takeOver(layer, before) {
  layer.planes.forEach((plane, band) => {
    const from = before.planes[band]?.values;
    eachMask(layer.mask, plane, (said, i) => {
      if (said === AS_BEFORE && from) plane.values[i] = from[i];
    });
  });
}

/** Call with what the mask says of each pixel of a plane, and its position. */
function eachMask(mask, plane, call) {
  const every = plane.step / mask.step;
  for (let row = 0, i = 0; row < plane.height; row++)
    for (let column = 0; column < plane.width; column++, i++)
      call(mask.values[row * every * mask.width + column * every], i);
}

/** Return the value of a file in one band at a pixel of the file, which the page must hold; NaN for none. */
function stored(layer, band, column, row) {
  const at = (plane) => Math.floor(row / plane.step) * plane.width + Math.floor(column / plane.step);
  if (layer.mask && layer.mask.values[at(layer.mask)] === MISSING) return NaN;
  return layer.planes[band].values[at(layer.planes[band])];
}

/** Return a stored value in the unit of the layer. */
function physical(layer, band, value) {
  return (value + layer.bands[band].add) / layer.bands[band].divide;
}

/** Return the pixel of the file, [column, row], nearest to a place in it, of which the page holds all bands. */
function nearestHeld(data, column, row) {
  const { width, height } = data.grid;
  const held = (at, size) => {
    const last = Math.ceil((size - data.start) / data.step) - 1;
    return Math.max(0, Math.min(last, Math.floor(at / data.step))) * data.step + data.start;
  };
  return [held(column, width), held(row, height)];
}
