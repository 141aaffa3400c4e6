"use strict";

/* Grey values of all layers along a line. */

/** Return the pixels of the result, [column, row] each, on a line between two of them. */
function pixelsBetween([column, row], [lastColumn, lastRow]) {
  const count = Math.max(Math.abs(lastColumn - column), Math.abs(lastRow - row), 1);
  return Array.from({ length: count + 1 }, (_, i) => [
    Math.round(column + ((lastColumn - column) * i) / count),
    Math.round(row + ((lastRow - row) * i) / count),
  ]);
}

/** Return what each layer holds in a slice at some pixels. */
function readProfile(layers, slice, pixels) {
  return layers.map((layer) => ({
    layer,
    values: pixels.map(([column, row]) => stored(layer, slice, column, row)),
  }));
}

/** Draw the grey values along a line; the deviation becomes a band around the result. */
function drawProfile(target, found) {
  const lines = found.filter(({ layer }) => layer.kind !== "uncertainty");
  const deviation = found.find(({ layer }) => layer.kind === "uncertainty")?.values;
  const all = lines.flatMap(({ values }) => values.filter(Number.isFinite));
  const step = stepOf(Math.max(...all) - Math.min(...all) || 1);
  const low = Math.floor(Math.min(...all) / step) * step;
  const high = Math.max(low + step, Math.ceil(Math.max(...all) / step) * step);
  const last = lines[0].values.length - 1;
  const x = (i) => scale(i, 0, last, SIZE.left, SIZE.width - SIZE.right);
  const y = (value) => scale(value, low, high, SIZE.height - SIZE.bottom, SIZE.top);
  const plot = draw("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img" });
  plot.append(draw("title", {}, "Grey values along the line; the table below sums them up"));
  for (let value = low; value <= high + step / 2; value += step) {
    const [x1, x2, at] = [SIZE.left, SIZE.width - SIZE.right, y(value)];
    plot.append(draw("line", { class: "grid", x1, x2, y1: at, y2: at }));
    plot.append(draw("text", { class: "tick end", x: SIZE.left - 5, y: at + 3 }, format(Number(value.toFixed(6)))));
  }
  for (const share of [0, 0.5, 1]) {
    const at = Math.round(share * last);
    const place = share < 1 ? { class: "tick middle", x: x(at) } : { class: "tick end", x: SIZE.width };
    plot.append(draw("text", { ...place, y: SIZE.height - SIZE.bottom + 14 }, String(at)));
  }
  const middle = (SIZE.left + SIZE.width) / 2;
  plot.append(draw("text", { class: "tick middle", x: middle, y: SIZE.height - 5 }, "pixels of the result along the line"));
  for (const { layer, values } of lines) {
    if (layer.kind === "after" && deviation) plot.append(bandAround(values, deviation, x, y));
    const points = values.map((value, i) => [x(i), y(value)]).filter(([, at]) => Number.isFinite(at));
    plot.append(draw("polyline", { class: `line ${layer.kind}`, points: points.map((at) => at.join()).join(" ") }));
  }
  const entries = lines.map(({ layer }) =>
    make("li", {}, make("i", { class: `swatch ${layer.kind}`, "aria-hidden": "true" }), layer.name),
  );
  if (deviation) {
    const swatch = make("i", { class: "swatch uncertainty", "aria-hidden": "true" });
    entries.push(make("li", {}, swatch, "Result ± deviation"));
  }
  target.replaceChildren(plot, make("ul", { class: "legend" }, ...entries));
}

function bandAround(values, deviation, x, y) {
  const at = (sign) => values.map((value, i) => `${x(i)},${y(value + sign * deviation[i])}`);
  const points = [...at(1), ...at(-1).reverse()].filter((point) => !point.includes("NaN"));
  return draw("polygon", { class: "spread", points: points.join(" ") });
}

/** Return a table of least, mean and greatest value of each layer. */
function summaryOf(found) {
  const head = ["Layer", "Least", "Mean", "Greatest"].map((text) => make("th", { scope: "col" }, text));
  const rows = found.map(({ layer, values }) => {
    const known = values.filter(Number.isFinite);
    const mean = known.reduce((a, b) => a + b, 0) / known.length;
    const figures = [Math.min(...known), mean, Math.max(...known)];
    return make("tr", {}, make("th", { scope: "row" }, layer.name), ...figures.map((each) => make("td", {}, format(each))));
  });
  return make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
}
