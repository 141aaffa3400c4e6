"use strict";

/* The map: two layers with a divider between them, in the scene's own projection. */

const SWIPE_STEP = 2; // percent per key

/** Return the projection and the extent of a scene; without a place these are its columns and rows. */
function placeOf(grid) {
  const [x, dx, y, dy] = grid.transform ?? [0, 1, grid.height, -1];
  const corners = [x, x + dx * grid.width, y, y + dy * grid.height];
  const extent = [
    Math.min(corners[0], corners[1]),
    Math.min(corners[2], corners[3]),
    Math.max(corners[0], corners[1]),
    Math.max(corners[2], corners[3]),
  ];
  const units = grid.transform ? grid.units : "pixels";
  const projection = new ol.proj.Projection({
    code: grid.crs ?? "pixels",
    units,
    extent,
    getPointResolution: (resolution) => resolution,
  });
  return {
    projection,
    extent,
    toPixel: ([east, north]) => [(east - x) / dx, (north - y) / dy],
    toPlace: ([column, row]) => [x + dx * column, y + dy * row],
  };
}

/** Return a layer of the map; `draw` gets a context and a function from a pixel of the file to the context's. */
function drawnLayer(place, draw) {
  const target = document.createElement("canvas");
  const source = new ol.source.ImageCanvas({
    projection: place.projection,
    ratio: 1,
    canvasFunction: (extent, resolution, pixelRatio, size) => {
      [target.width, target.height] = size;
      const scale = pixelRatio / resolution;
      draw(target.getContext("2d"), (column, row) => {
        const [east, north] = place.toPlace([column, row]);
        return [(east - extent[0]) * scale, (extent[3] - north) * scale];
      });
      return target;
    },
  });
  return new ol.layer.Image({ source });
}

/** Return a layer that shows canvases of `step` pixels of the file each: `show` exchanges them. */
function canvasLayer(place) {
  let picture = null;
  const layer = drawnLayer(place, (context, toContext) => {
    if (!picture) return;
    const [left, top] = toContext(0, 0);
    const [right, bottom] = toContext(picture.width * picture.step, picture.height * picture.step);
    context.imageSmoothingEnabled = Math.abs(right - left) < 2 * picture.width;
    context.imageSmoothingQuality = "high";
    drawFlipped(context, picture, left, top, right - left, bottom - top);
  });
  layer.show = (canvas) => {
    picture = canvas;
    layer.getSource().changed();
  };
  return layer;
}

/** Return a layer that draws edges, [column, row, column, row] each, as thin lines of any zoom. */
function edgeLayer(place, edges) {
  return drawnLayer(place, (context, toContext) => {
    context.beginPath();
    for (const [column, row, endColumn, endRow] of edges) {
      context.moveTo(...toContext(column, row));
      context.lineTo(...toContext(endColumn, endRow));
    }
    context.lineCap = "square";
    context.lineWidth = 1.25 * devicePixelRatio;
    context.strokeStyle = "rgb(255 64 160 / 90%)";
    context.stroke();
  });
}

/** Draw a picture whose width or height may be negative, where columns run west or rows north. */
function drawFlipped(context, picture, left, top, width, height) {
  context.save();
  context.translate(left, top);
  context.scale(Math.sign(width), Math.sign(height));
  context.drawImage(picture, 0, 0, Math.abs(width), Math.abs(height));
  context.restore();
}

/** Return the map with its layers `left`, `right` and `painted`, which draws edges. */
function makeMap(target, place, edges) {
  const [left, right, painted] = [canvasLayer(place), canvasLayer(place), edgeLayer(place, edges)];
  const centre = ol.extent.getCenter(place.extent);
  const pixel = Math.abs(place.toPlace([1, 0])[0] - place.toPlace([0, 0])[0]);
  const view = new ol.View({
    projection: place.projection,
    center: centre,
    extent: ol.extent.buffer(place.extent, ol.extent.getWidth(place.extent)),
    minResolution: pixel / 24,
    constrainOnlyCenter: true,
    showFullExtent: true,
    enableRotation: false,
  });
  const controls = [new ol.control.Zoom()];
  if (place.projection.getUnits() !== "pixels") controls.push(new ol.control.ScaleLine());
  const map = new ol.Map({ target, view, layers: [left, right, painted], controls });
  const fit = (extent = place.extent) => view.fit(extent, { padding: [12, 12, 12, 12] });
  fit();
  return { map, left, right, painted, fit };
}

/** Let a handle divide the map; returns a function that moves it to a percentage. */
function divide({ map, left, right }, handle) {
  let share = 50;
  clip(map, left, () => [0, share]);
  clip(map, right, () => [share, 100]);
  const move = (percent) => {
    share = Math.max(0, Math.min(100, percent));
    handle.style.left = `${share}%`;
    handle.setAttribute("aria-valuenow", String(Math.round(share)));
    handle.setAttribute("aria-valuetext", `${Math.round(share)} % of the width`);
    map.render();
  };
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus();
  });
  handle.addEventListener("pointermove", (event) => {
    if (!handle.hasPointerCapture(event.pointerId)) return;
    const box = map.getTargetElement().getBoundingClientRect();
    move(((event.clientX - box.left) / box.width) * 100);
  });
  handle.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -5, PageUp: 5 };
    if (event.key in steps) move(share + steps[event.key] * SWIPE_STEP);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(100);
    else return;
    event.preventDefault();
  });
  move(share);
  return { move, by: (steps) => move(share + steps * SWIPE_STEP) };
}

/** Draw a layer only between two percentages of the width. */
function clip(map, layer, between) {
  layer.on("prerender", (event) => {
    const [width, height] = map.getSize();
    const [from, to] = between().map((percent) => (width * percent) / 100);
    const corners = [[from, 0], [to, 0], [to, height], [from, height]];
    const context = event.context;
    context.save();
    context.beginPath();
    corners.forEach((corner) => context.lineTo(...ol.render.getRenderPixel(event, corner)));
    context.closePath();
    context.clip();
  });
  layer.on("postrender", (event) => event.context.restore());
}
