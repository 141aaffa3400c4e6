"use strict";

/* The page of slices: reads them, and connects slider, divider, profile and keys. */

/* Share of the grey values that are shown as black, and as white. */
const TAIL = 0.001;

openLayers(showFacts, start);

/** Show sizes, files and how the result was made. */
function showFacts(data) {
  const [{ width, height }] = data.views;
  const slices = data.numSlices === 1 ? "1 slice" : `${data.numSlices} slices`;
  const times = data.views.length > 1 ? `${data.factor} times along all axes` : `${data.factor} times`;
  find("subtitle").textContent = `${slices} of ${width} × ${height} pixels, enlarged ${times}`;
  describe(find("provenance"), data.provenance);
  listFiles(find("files"), data.views[0].layers.map((i) => data.layers[i]));
  const said = data.views
    .filter(({ planes, numPlanes }) => planes.length < numPlanes)
    .map(({ name, planes, numPlanes }) => `${planes.length} of the ${numPlanes} ${kindOf(planes, name)}`);
  if (data.step > 1) said.push(`every ${ordinal(data.step)} row and column`);
  find("decimated").hidden = !said.length;
  find("decimated").textContent = `This page holds ${said.join(", ")}, with the values of the files, which hold all.`;
}

/** Return what the planes of a view are called, "rows". */
function kindOf(planes, name) {
  return name === "slices" ? name : `${planes[0].split(" ", 1)}s`;
}

/**
 * Connect everything with the layers, and return the map.
 *
 * `views` are directions; each has its planes, the one that is shown, and `layers` in the same order as all.
 */
function start(data, layers) {
  const views = data.views.map((view) => ({
    ...view,
    plane: Math.floor(view.planes.length / 2),
    layers: view.layers.map((i) => layers[i]),
  }));
  const place = placeOf({
    width: Math.max(...views.map(({ width }) => width)),
    height: Math.max(...views.map(({ height }) => height)),
  });
  const made = makeMap(find("map"), place, []);
  const line = lineLayer(place, made.map);
  const swipe = divide(made, find("swipe"));
  const faces = views[0].layers; // stand for the layers of the same name in all views
  const after = faces.find(({ kind }) => kind === "after");
  const state = { views, view: views[0], faces, left: faces[0], right: after, ends: null };
  [state.low, state.high] = limitsOf(after.planes[state.view.plane].values, TAIL);
  const refresh = () => {
    made.left.show(composePlane(layerOf(state, state.left), state));
    made.right.show(composePlane(layerOf(state, state.right), state));
    showLegend([state.left, state.right], state);
    if (state.ends) showProfile(state, line);
    made.map.render();
  };
  const fit = () => {
    const { width, height } = state.view;
    made.fit([...place.toPlace([0, height]), ...place.toPlace([width, 0])]);
  };
  const scroll = connectPlanes(state, refresh);
  connectContrast(state, refresh);
  const sides = connectSides(faces, state, refresh);
  const across = connectProfile(place, made.map, state, refresh);
  const turn = connectViews(state, () => {
    fit();
    scroll(0);
    across("row");
  });
  connectKeys({ sides, swipe, scroll, turn, across, fit });
  fit();
  across("row");
  return made.map;
}

/** Return the layer of the view that is shown, for one of the first view. */
function layerOf({ view, faces }, face) {
  return view.layers[faces.indexOf(face)];
}

/** Return the values below and above which lie a share of all. */
function limitsOf(values, tail) {
  const known = Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
  if (!known.length) return [0, 1];
  const at = (share) => known[Math.round(share * (known.length - 1))];
  return [at(tail), at(1 - tail)];
}

/** Return a canvas of the plane that is shown: grey, or the colours of the ramp for a deviation. */
function composePlane(layer, state) {
  const { values, width, height, step } = layer.planes[state.view.plane];
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

/** Return what a pixel of the view that is shown is called. */
function placeName({ view }, pixel) {
  return view.axes.map((axis, i) => `${axis} ${pixel[i]}`).join(", ");
}

function showProfile(state, line) {
  const pixels = pixelsBetween(...state.ends);
  const found = readProfile(state.view.layers, state.view.plane, pixels);
  line(state.ends);
  drawProfile(find("chart"), found);
  find("values").replaceChildren(summaryOf(found));
  const [from, to] = state.ends.map((pixel) => placeName(state, pixel));
  find("where").textContent = `From ${from} to ${to}`;
}

/** Connect the slider and its buttons; returns a function that goes some planes on. */
function connectPlanes(state, refresh) {
  const slider = find("slice");
  const set = (plane) => {
    const { view } = state;
    view.plane = Math.max(0, Math.min(view.planes.length - 1, plane));
    slider.max = String(view.planes.length - 1);
    slider.value = String(view.plane);
    slider.setAttribute("aria-valuetext", view.planes[view.plane]);
    find("slice-name").textContent = `${view.plane + 1} of ${view.planes.length}: ${view.planes[view.plane]}`;
    refresh();
  };
  slider.addEventListener("input", () => set(Number(slider.value)));
  find("previous").addEventListener("click", () => set(state.view.plane - 1));
  find("next").addEventListener("click", () => set(state.view.plane + 1));
  set(state.view.plane);
  return (steps) => {
    set(state.view.plane + steps);
    say(state.view.planes[state.view.plane]);
  };
}

/** Connect the choice of a direction, where there are several; returns a function that takes the next. */
function connectViews(state, changed) {
  const { views } = state;
  const select = find("plane");
  find("view-field").hidden = find("view-key").hidden = views.length < 2;
  offer(select, views.map(({ name }, i) => [String(i), name]));
  const set = (i) => {
    state.view = views[i];
    select.value = String(i);
    changed();
  };
  select.addEventListener("change", () => set(Number(select.value)));
  return () => {
    if (views.length > 1) set((views.indexOf(state.view) + 1) % views.length);
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
function connectProfile(place, map, state, refresh) {
  let first = null;
  const inside = (at, size) => Math.max(0, Math.min(size - 1, Math.floor(at)));
  const pixelAt = (coordinate) => {
    const [column, row] = place.toPixel(coordinate);
    return [inside(column, state.view.width), inside(row, state.view.height)];
  };
  map.on("singleclick", ({ coordinate }) => {
    if (!first) {
      first = pixelAt(coordinate);
      find("where").textContent = `From ${placeName(state, first)}; now click where it ends`;
      return;
    }
    state.ends = [first, pixelAt(coordinate)];
    first = null;
    refresh();
  });
  const across = (direction) => {
    const [column, row] = pixelAt(map.getView().getCenter());
    const last = [state.view.width - 1, state.view.height - 1];
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
  const top = limitsOf(layerOf(state, layer).planes[state.view.plane].values, TAIL)[1];
  find("legend").replaceChildren(...rampLegend("Standard deviation in grey values", format(top)));
}

/** Connect the keys. */
function connectKeys({ sides, swipe, scroll, turn, across, fit }) {
  const actions = {
    ",": () => scroll(-1),
    ".": () => scroll(1),
    "[": () => swipe.by(-1),
    "]": () => swipe.by(1),
    v: turn,
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
