"use strict";

/* The page of a scene: reads its layers, and connects controls, keys and map. */

openLayers(showFacts, start);

/** Show size, place, files and how the result was made. */
function showFacts(data) {
  const { width, height, crs, transform } = data.grid;
  const pixel = transform ? `, pixels of ${format(Math.abs(transform[1]))} ${data.grid.units}` : "";
  find("subtitle").textContent = `${width} × ${height} pixels${pixel}${crs ? `, ${crs}` : ""}`;
  describe(find("provenance"), data.provenance);
  listFiles(find("files"), data.layers);
  if (data.step === 1) return;
  find("decimated").hidden = false;
  find("decimated").textContent =
    `This page holds every ${ordinal(data.fine)} row and column of the scene, of most bands every ` +
    `${ordinal(data.step)}, with the values of the file. The files above hold all of them.`;
}

/** Connect everything with the layers, and return the map. */
function start(data, layers) {
  const place = placeOf(data.grid);
  const after = layers.find((layer) => layer.kind === "after") ?? layers.at(-1);
  const shown = { left: layers[0], right: after };
  const view = { bands: [], low: [0, 0, 0], high: [1, 1, 1], gamma: 1 };
  const outlined = outline(layers);
  const made = makeMap(find("map"), place, outlined?.edges ?? []);
  const swipe = divide(made, find("swipe"));
  const refresh = () => {
    made.left.show(compose(shown.left, view));
    made.right.show(compose(shown.right, view));
    showLegend(Object.values(shown), view);
    made.map.render();
  };
  const painted = connectPainted(made.painted, outlined);
  const colours = connectColours(after, view, refresh);
  const sides = connectSides(layers, shown, refresh);
  const read = connectPixels(data, layers, place, made.map);
  connectKeys({ layers, sides, swipe, colours, painted, read, fit: made.fit, map: made.map });
  refresh();
  return made.map;
}

/** Connect bands, stretch and gamma; returns a function that goes to the next bands. */
function connectColours(after, view, refresh) {
  const names = after.bands.map(({ name }) => name);
  const presets = presetsOf(names);
  const channels = ["red", "green", "blue"].map(find);
  const [low, high, gamma, stretch, preset] = ["low", "high", "gamma", "stretch", "preset"].map(find);
  const fixed = isPicture(after) ? 255 : FIXED_TOP;
  const setBands = (bands) => {
    view.bands = bands;
    channels.forEach((select, c) => (select.value = bands[c]));
    const at = presets.findIndex(([, ...each]) => each.join() === bands.join());
    preset.value = String(at);
    setStretch(stretch.value);
  };
  const setStretch = (kind) => {
    stretch.value = kind;
    if (kind === "auto") {
      const middles = channelsOf(after, view.bands).map((band) => middleOf(after, band) ?? [0, 1]);
      view.low = middles.map(([from]) => from);
      view.high = middles.map(([, to]) => to);
    } else if (kind === "fixed") {
      view.low = [0, 0, 0];
      view.high = Array(3).fill(fixed);
    } else {
      view.low = Array(3).fill(Number(low.value));
      view.high = Array(3).fill(Number(high.value));
    }
    if (kind !== "own") {
      low.value = format(Math.min(...view.low));
      high.value = format(Math.max(...view.high));
    }
    refresh();
  };
  channels.forEach((select) => {
    offer(select, names.map((name) => [name, name]));
    select.addEventListener("change", () => setBands(channels.map(({ value }) => value)));
  });
  const own = presets.map(([text, ...bands], i) => [String(i), `${text} (${[...new Set(bands)].join(", ")})`]);
  offer(preset, [...own, ["-1", "Own choice"]]);
  preset.addEventListener("change", () => preset.value !== "-1" && setBands(presets[preset.value].slice(1)));
  stretch.addEventListener("change", () => setStretch(stretch.value));
  for (const input of [low, high]) input.addEventListener("change", () => setStretch("own"));
  gamma.addEventListener("change", () => {
    view.gamma = Math.max(0.2, Number(gamma.value) || 1);
    refresh();
  });
  stretch.querySelector("[value=fixed]").textContent = `0 to ${fixed}, the same for all`;
  stretch.value = isPicture(after) ? "fixed" : "auto";
  gamma.value = view.gamma = isPicture(after) ? 1 : 1.4;
  setBands(presets[0].slice(1));
  return () => {
    const next = presets[(Number(preset.value) + 1) % presets.length];
    setBands(next.slice(1));
    say(next[0]);
  };
}

/** Connect the outline of what was painted; returns a function that shows or hides it. */
function connectPainted(layer, outlined) {
  const box = find("painted");
  find("painted-field").hidden = !outlined;
  if (outlined) find("painted-share").textContent = shareInWords(outlined.share);
  box.addEventListener("change", () => layer.setVisible(box.checked));
  return () => {
    box.checked = !box.checked;
    layer.setVisible(box.checked);
    say(box.checked ? "Outline on" : "Outline off");
  };
}

/** Return a share in words; neither almost all nor almost nothing is rounded to it. */
function shareInWords(share) {
  if (share === 0 || share === 1) return share ? "all of the scene" : "nothing";
  const percent = 100 * share;
  if (percent < 1) return "less than 1 % of the scene";
  return percent > 99 ? "more than 99 % of the scene" : `${Math.round(percent)} % of the scene`;
}

/** Connect clicks with spectrum and table; returns a function that reads a place. */
function connectPixels(data, layers, place, map) {
  const mark = new ol.Overlay({ element: make("div", { class: "mark" }), positioning: "center-center", stopEvent: false });
  map.addOverlay(mark);
  const read = (coordinate) => {
    const [column, row] = place.toPixel(coordinate).map(Math.floor);
    if (column < 0 || row < 0 || column >= data.grid.width || row >= data.grid.height) return;
    const pixel = nearestHeld(data, column, row);
    const centre = place.toPlace(pixel.map((at) => at + 0.5));
    mark.setPosition(centre);
    const found = readPixel(layers, pixel);
    drawSpectra(find("chart"), found);
    find("values").replaceChildren(tableOf(found.filter(({ layer }) => layer.kind !== "painted")));
    const where = data.grid.crs ? `; ${centre.map((at) => format2(at, data.grid.units)).join(", ")} in ${data.grid.crs}` : "";
    find("where").textContent = `Column ${pixel[0]}, row ${pixel[1]}, counted from 0${where}${paintedWords(found)}`;
    say(`Pixel in column ${pixel[0]}, row ${pixel[1]} read`);
  };
  map.on("singleclick", (event) => read(event.coordinate));
  return read;
}

/** Say how much of a pixel was painted, where it is known. */
function paintedWords(found) {
  const painted = found.find(({ layer }) => layer.kind === "painted");
  return painted ? `; painted by ${Math.round((100 * painted.values[0]) / 255)} %` : "";
}

function format2(number, units) {
  return number.toFixed(units === "degrees" ? 5 : 0);
}

/** Say what the colours of the ramp mean where a layer shows it. */
function showLegend(shown, view) {
  const layer = shown.find(({ kind }) => kind === "uncertainty" || kind === "painted");
  const legend = find("legend");
  legend.hidden = !layer;
  if (!layer) return;
  const [text, top] =
    layer.kind === "painted"
      ? ["Weight of the restored image", "1"]
      : ["Standard deviation, mean of the bands shown", format(rampTop(layer, view))];
  legend.replaceChildren(...rampLegend(text, top));
}

/** Connect the keys. */
function connectKeys({ layers, sides, swipe, colours, painted, read, fit, map }) {
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select")) return;
    const digit = /^Digit([1-9])$/.exec(event.code);
    const actions = {
      "[": () => swipe.by(-1),
      "]": () => swipe.by(1),
      x: sides.exchange,
      p: painted,
      c: colours,
      0: fit,
    };
    if (digit) sides.set(event.shiftKey ? "left" : "right", layers[Number(digit[1]) - 1]);
    else if (event.key === "Enter" && target.id === "map") read(map.getView().getCenter());
    else if (event.key.toLowerCase() in actions) actions[event.key.toLowerCase()]();
    else return;
    event.preventDefault();
  });
}
