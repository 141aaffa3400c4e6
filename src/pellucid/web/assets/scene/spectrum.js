"use strict";

/* What all layers hold at a pixel: a plot of the spectra and a table of the values in the files. */

/* Centres of the bands of Sentinel-2 in nanometres. */
const WAVELENGTHS = {
  B01: 443, B02: 490, B03: 560, B04: 665, B05: 705, B06: 740, B07: 783,
  B08: 842, B8A: 865, B09: 945, B10: 1375, B11: 1610, B12: 2190,
};

/** Return what every layer holds at a pixel of the file, [column, row]. */
function readPixel(layers, [column, row]) {
  return layers.map((layer) => ({
    layer,
    values: layer.bands.map((_, band) => stored(layer, band, column, row)),
  }));
}

/** Draw the spectra of the optical layers; the uncertainty becomes bars on the result. */
function drawSpectra(target, found) {
  const optical = found.filter(({ layer }) => OPTICAL.includes(layer.kind));
  const names = optical.reduce((a, { layer }) => (layer.bands.length > a.length ? layer.bands : a), []);
  const known = names.every(({ name }) => name in WAVELENGTHS) && names.length > 2;
  const bands = names.map(({ name }) => name);
  if (known) bands.sort((a, b) => WAVELENGTHS[a] - WAVELENGTHS[b]);
  const lines = optical.map(({ layer, values }) => lineOf(layer, values, bands));
  const deviation = found.find(({ layer }) => layer.kind === "uncertainty");
  const bars = deviation ? lineOf(deviation.layer, deviation.values, bands) : null;
  const tops = lines.flatMap((line) => line.points.map(([, y]) => y)).filter(Number.isFinite);
  const top = niceAbove(Math.max(0.05, ...tops));
  const across = bands.map((name, i) => (known ? Math.sqrt(WAVELENGTHS[name]) : i));
  const x = (i) => scale(across[i], across[0], across.at(-1), SIZE.left + 6, SIZE.width - SIZE.right - 6);
  const y = (value) => scale(value, 0, top, SIZE.height - SIZE.bottom, SIZE.top);
  const plot = draw("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img" });
  plot.append(draw("title", {}, "Spectra; the table below has the values"), ...axes(bands, x, y, top, known));
  const lastIsBefore = (line) => (line.kind === "before" ? 1 : 0);
  const drawn = [...lines].sort((a, b) => lastIsBefore(a) - lastIsBefore(b));
  for (const line of drawn) plot.append(...drawLine(line, bands, x, y, line.kind === "after" ? bars : null));
  target.replaceChildren(plot, legendOf(lines));
}

function lineOf(layer, values, bands) {
  const names = layer.bands.map(({ name }) => name);
  const points = bands.map((name, i) => {
    const band = names.indexOf(name);
    return [i, band < 0 ? NaN : physical(layer, band, values[band])];
  });
  return { kind: layer.kind, name: layer.name, points: points.filter(([, value]) => Number.isFinite(value)) };
}

function axes(bands, x, y, top, known) {
  const made = [];
  const step = stepOf(top);
  for (let value = 0; value <= top * 1.001; value += step) {
    made.push(draw("line", { class: "grid", x1: SIZE.left, x2: SIZE.width - SIZE.right, y1: y(value), y2: y(value) }));
    made.push(draw("text", { class: "tick end", x: SIZE.left - 5, y: y(value) + 3 }, format(Number(value.toFixed(6)))));
  }
  let last = -Infinity;
  bands.forEach((name, i) => {
    made.push(draw("line", { class: "grid", x1: x(i), x2: x(i), y1: y(0), y2: y(0) + 4 }));
    if (x(i) - last < 21) return;
    last = x(i);
    made.push(draw("text", { class: "tick middle", x: x(i), y: y(0) + 14 }, name));
  });
  const caption = known ? "bands of Sentinel-2 by wavelength" : "bands";
  made.push(draw("text", { class: "tick middle", x: (SIZE.left + SIZE.width) / 2, y: SIZE.height - 5 }, caption));
  return made;
}

function drawLine(line, bands, x, y, bars) {
  const points = line.points.map(([i, value]) => [x(i), y(value)]);
  const made = [];
  for (const [i, deviation] of bars?.points ?? []) {
    const value = line.points.find(([at]) => at === i)?.[1];
    if (value === undefined || !(deviation > 0)) continue;
    const [low, high] = [y(Math.max(0, value - deviation)), y(value + deviation)];
    made.push(draw("line", { class: `bar ${line.kind}`, x1: x(i), x2: x(i), y1: low, y2: high }));
  }
  made.push(draw("polyline", { class: `line ${line.kind}`, points: points.map((at) => at.join()).join(" ") }));
  points.forEach(([cx, cy]) => made.push(draw("circle", { class: `dot ${line.kind}`, cx, cy, r: 2.2 })));
  return made;
}

function legendOf(lines) {
  const entries = lines.map(({ kind, name }) =>
    make("li", {}, make("i", { class: `swatch ${kind}`, "aria-hidden": "true" }), name),
  );
  return make("ul", { class: "legend" }, ...entries);
}

/** Return a table of the values as the files hold them. */
function tableOf(found) {
  const names = [...new Set(found.flatMap(({ layer }) => layer.bands.map(({ name }) => name)))];
  const head = make("tr", {}, make("th", { scope: "col" }, "Band"));
  for (const { layer } of found) head.append(make("th", { scope: "col" }, layer.kind === "uncertainty" ? "± Std" : layer.name));
  const rows = names.map((name) => {
    const row = make("tr", {}, make("th", { scope: "row" }, name));
    for (const { layer, values } of found) {
      const band = layer.bands.findIndex((each) => each.name === name);
      row.append(make("td", {}, band < 0 ? "" : format(values[band])));
    }
    return row;
  });
  const caption = make("caption", {}, "Values as the files hold them");
  return make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows));
}
