"use strict";

/* The page of slices: reads them, and connects slider, divider, profile and keys. */

/* Share of the grey values that are shown as black, and as white. */
const TAIL = 0.001;

openLayers(showFacts, start);

/** Show sizes, files and how the result was made. */
function showFacts(data) {
  const { width, height } = data.grid;
  const slices = data.numSlices === 1 ? "1 slice" : `${data.numSlices} slices`;
  find("subtitle").textContent = `${slices} of ${width} × ${height} pixels, enlarged ${data.factor} times`;
  describe(find("provenance"), data.provenance);
  listFiles(find("files"), data.layers);
  const said = [];
  if (data.slices.length < data.numSlices) said.push(`${data.slices.length} of the ${data.numSlices} slices`);
  if (data.step > 1) said.push(`every ${ordinal(data.step)} row and column`);
  find("decimated").hidden = !said.length;
  find("decimated").textContent = `This page holds ${said.join(", ")}, with the values of the files, which hold all.`;
}

/** Connect everything with the layers, and return the map. */
function start(data, layers) {
  const place = placeOf(data.grid);
  const made = makeMap(find("map"), place, []);
  const line = lineLayer(place, made.map);
  const swipe = divide(made, find("swipe"));
  const after = layers.find(({ kind }) => kind === "after");
  const state = { slice: Math.floor(data.slices.length / 2), left: layers[0], right: after, ends: null };
  [state.low, state.high] = limitsOf(after.planes[state.slice].values, TAIL);
  const refresh = () => {
    made.left.show(composeSlice(state.left, state));
    made.right.show(composeSlice(state.right, state));
    showLegend([state.left, state.right], state);
    if (state.ends) showProfile(layers, state, line);
    made.map.render();
  };
  const scroll = connectSlices(data, state, refresh);
  connectContrast(state, refresh);
  const sides = connectSides(layers, state, refresh);
  const across = connectProfile(data, place, made.map, state, refresh);
  connectKeys({ sides, swipe, scroll, across, fit: made.fit });
  across("row");
  return made.map;
}

/** Return the values below and above which lie a share of all. */
function limitsOf(values, tail) {
  const known = Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
  if (!known.length) return [0, 1];
  const at = (share) => known[Math.round(share * (known.length - 1))];
  return [at(tail), at(1 - tail)];
}

/** Return a canvas of a slice: grey, or the colours of the ramp for a deviation. */
function composeSlice(layer, state) {
  const { values, width, height, step } = layer.planes[state.slice];
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const top = layer.kind === "uncertainty" ? limitsOf(values, TAIL)[1] || 1 : 0;
  for (let i = 0; i < values.length; i++) {
    const grey = 255 * Math.max(0, Math.min(1, (values[i] - state.low) / (state.high - state.low || 1)));
    const colour = top ? rampAt(values[i] / top) : [grey, grey, grey];
    image.data.set([...colour.map(Math.round), Number.isFinite(values[i]) ? 255 : 0], 4 * i);
  }
  context.putImageData(image, 0, 0);
  canvas.step = step;
  return canvas;
}

/** Return a layer of the map that draws the line of the profile; `set` moves it. */
function lineLayer(place, map) {
  let ends = null;
  const layer = drawnLayer(place, (context, toContext) => {
    if (!ends) return;
    const [from, to] = ends.map(([column, row]) => toContext(column + 0.5, row + 0.5));
    for (const [width, colour] of [[4, "rgb(0 0 0 / 60%)"], [2, "rgb(255 64 160)"]]) {
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.lineWidth = width * devicePixelRatio;
      context.strokeStyle = colour;
      context.lineCap = "round";
      context.stroke();
    }
  });
  map.addLayer(layer);
  return (moved) => {
    ends = moved;
    layer.getSource().changed();
  };
}

function showProfile(layers, state, line) {
  const pixels = pixelsBetween(...state.ends);
  const found = readProfile(layers, state.slice, pixels);
  line(state.ends);
  drawProfile(find("chart"), found);
  find("values").replaceChildren(summaryOf(found));
  const [from, to] = state.ends.map(([column, row]) => `column ${column}, row ${row}`);
  find("where").textContent = `From ${from} to ${to}`;
}

/** Connect the slider and its buttons; returns a function that goes some slices on. */
function connectSlices(data, state, refresh) {
  const slider = find("slice");
  slider.max = String(data.slices.length - 1);
  const set = (slice) => {
    state.slice = Math.max(0, Math.min(data.slices.length - 1, slice));
    slider.value = String(state.slice);
    slider.setAttribute("aria-valuetext", data.slices[state.slice]);
    find("slice-name").textContent = `${state.slice + 1} of ${data.slices.length}: ${data.slices[state.slice]}`;
    refresh();
  };
  slider.addEventListener("input", () => set(Number(slider.value)));
  find("previous").addEventListener("click", () => set(state.slice - 1));
  find("next").addEventListener("click", () => set(state.slice + 1));
  set(state.slice);
  return (steps) => {
    set(state.slice + steps);
    say(data.slices[state.slice]);
  };
}

/** Connect the grey values shown as black and white. */
function connectContrast(state, refresh) {
  for (const side of ["low", "high"]) {
    find(side).value = String(Number(state[side].toPrecision(6)));
    find(side).addEventListener("change", () => {
      state[side] = Number(find(side).value);
      refresh();
    });
  }
}

/** Connect clicks that choose a line; returns a function for one across the middle of the view. */
function connectProfile(data, place, map, state, refresh) {
  let first = null;
  const inside = (at, size) => Math.max(0, Math.min(size - 1, Math.floor(at)));
  const pixelAt = (coordinate) => {
    const [column, row] = place.toPixel(coordinate);
    return [inside(column, data.grid.width), inside(row, data.grid.height)];
  };
  map.on("singleclick", ({ coordinate }) => {
    if (!first) {
      first = pixelAt(coordinate);
      find("where").textContent = `From column ${first[0]}, row ${first[1]}; now click where it ends`;
      return;
    }
    state.ends = [first, pixelAt(coordinate)];
    first = null;
    refresh();
  });
  const across = (direction) => {
    const [column, row] = pixelAt(map.getView().getCenter());
    const last = [data.grid.width - 1, data.grid.height - 1];
    state.ends = direction === "row" ? [[0, row], [last[0], row]] : [[column, 0], [column, last[1]]];
    first = null;
    refresh();
  };
  for (const direction of ["row", "column"]) find(direction).addEventListener("click", () => across(direction));
  return across;
}

/** Say what the colours of a deviation mean where it is shown. */
function showLegend(shown, state) {
  const layer = shown.find(({ kind }) => kind === "uncertainty");
  find("legend").hidden = !layer;
  if (!layer) return;
  const top = limitsOf(layer.planes[state.slice].values, TAIL)[1];
  find("legend").replaceChildren(...rampLegend("Standard deviation in grey values", format(top)));
}

/** Connect the keys. */
function connectKeys({ sides, swipe, scroll, across, fit }) {
  const actions = {
    ",": () => scroll(-1),
    ".": () => scroll(1),
    "[": () => swipe.by(-1),
    "]": () => swipe.by(1),
    x: sides.exchange,
    r: () => across("row"),
    c: () => across("column"),
    0: fit,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=number], select")) return;
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    action();
    event.preventDefault();
  });
}
