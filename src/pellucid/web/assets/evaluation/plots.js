"use strict";

/* Plots over the images of an evaluation. */

/** Draw points, {x, y, name, at} each; `within`: what the axis holds at least; a click calls `call` with `at`. */
function drawPoints(target, points, { across, up, isEqual = false, zero = false, within = [] }, call) {
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const both = [...xs, ...ys];
  const x = axisOf(isEqual ? both : [...xs, ...within]);
  const y = axisOf(isEqual ? both : zero ? [...ys, 0] : ys);
  const plot = frame(x, y, across, up);
  const toX = (value) => scale(value, x.low, x.high, SIZE.left, SIZE.width - SIZE.right);
  const toY = (value) => scale(value, y.low, y.high, SIZE.height - SIZE.bottom, SIZE.top);
  if (isEqual) plot.append(draw("line", { class: "rule", x1: toX(x.low), y1: toY(x.low), x2: toX(x.high), y2: toY(x.high) }));
  else if (zero) plot.append(draw("line", { class: "rule", x1: toX(x.low), y1: toY(0), x2: toX(x.high), y2: toY(0) }));
  for (const point of points) {
    const dot = draw("circle", { class: "dot after", cx: toX(point.x), cy: toY(point.y), r: 3.2 });
    dot.append(draw("title", {}, `${point.name}: ${format(point.x)}, ${format(point.y)}`));
    dot.addEventListener("click", () => call(point.at));
    plot.append(dot);
  }
  target.replaceChildren(plot);
}

/** Draw how many values lie in each of some equal steps. */
function drawHistogram(target, values, across) {
  const x = axisOf([...values, 0]);
  const step = x.step / (values.length > 60 ? 4 : 2);
  const counts = Array(Math.max(1, Math.round((x.high - x.low) / step))).fill(0);
  for (const value of values) counts[Math.min(counts.length - 1, Math.floor((value - x.low) / step))]++;
  const y = axisOf([0, ...counts], 1);
  const plot = frame(x, y, across, "images");
  const toX = (value) => scale(value, x.low, x.high, SIZE.left, SIZE.width - SIZE.right);
  const toY = (value) => scale(value, y.low, y.high, SIZE.height - SIZE.bottom, SIZE.top);
  counts.forEach((count, i) => {
    const left = toX(x.low + i * step);
    const box = { x: left + 0.5, y: toY(count), width: toX(x.low + (i + 1) * step) - left - 1, height: toY(0) - toY(count) };
    plot.append(draw("rect", { class: "column", ...box }));
  });
  plot.append(draw("line", { class: "rule", x1: toX(0), x2: toX(0), y1: SIZE.top, y2: SIZE.height - SIZE.bottom }));
  target.replaceChildren(plot);
}

/** Return limits and step of an axis that holds some values; about a single one there is room on both sides. */
function axisOf(values, leastStep = 0) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const step = Math.max(leastStep, stepOf(most - least || Math.abs(most) / 10 || 1));
  const room = most === least ? step / 2 : 0;
  return { low: Math.floor((least - room) / step) * step, high: Math.ceil((most + room) / step) * step, step };
}

function frame(x, y, across, up) {
  const plot = draw("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img" });
  plot.append(draw("title", {}, `${up} against ${across}; the table of images has the figures`));
  const [bottom, right] = [SIZE.height - SIZE.bottom, SIZE.width - SIZE.right];
  for (let value = y.low; value <= y.high + y.step / 2; value += y.step) {
    const at = scale(value, y.low, y.high, bottom, SIZE.top);
    plot.append(draw("line", { class: "grid", x1: SIZE.left, x2: right, y1: at, y2: at }));
    plot.append(draw("text", { class: "tick end", x: SIZE.left - 5, y: at + 3 }, format(Number(value.toFixed(6)))));
  }
  for (let value = x.low; value <= x.high + x.step / 2; value += x.step) {
    const at = scale(value, x.low, x.high, SIZE.left, right);
    plot.append(draw("text", { class: "tick middle", x: at, y: bottom + 14 }, format(Number(value.toFixed(6)))));
  }
  plot.append(draw("text", { class: "tick middle", x: (SIZE.left + right) / 2, y: SIZE.height - 5 }, across));
  return plot;
}
