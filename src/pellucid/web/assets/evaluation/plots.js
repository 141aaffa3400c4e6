"use strict";

/* Plots over the images of an evaluation. */

/** Draw points, {x, y, name, at} each; `call` is called with the position of one that is clicked. */
function drawPoints(target, points, { across, up, isEqual = false, zero = false }, call) {
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const both = [...xs, ...ys];
  const x = axisOf(isEqual ? both : xs);
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
  const y = axisOf([0, ...counts]);
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

/** Return limits and step of an axis that holds some values. */
function axisOf(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const step = stepOf(most - least || Math.abs(most) || 1);
  const low = Math.floor(least / step) * step;
  return { low, high: Math.max(low + step, Math.ceil(most / step) * step), step };
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
