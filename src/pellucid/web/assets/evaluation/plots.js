"use strict";

/* Plots over the images of an evaluation. */

/**
 * Draw points, {x, y, name, at} each; `within`: what the axis holds at least; `isLog`: x are logarithms to base 10;
 * a click calls `call` with `at`.
 */
function drawPoints(target, points, { across, up, isEqual = false, isLog = false, zero = false, within = [] }, call) {
  const [xs, ys] = [points.map(({ x }) => x), points.map(({ y }) => y)];
  const both = [...xs, ...ys];
  const x = isLog ? logAxisOf(xs) : axisOf(isEqual ? both : [...xs, ...within]);
  const y = axisOf(isEqual ? both : zero ? [...ys, 0] : ys);
  const plot = frame(x, y, across, up);
  const toX = (value) => scale(value, x.low, x.high, SIZE.left, SIZE.width - SIZE.right);
  const toY = (value) => scale(value, y.low, y.high, SIZE.height - SIZE.bottom, SIZE.top);
  if (isEqual) plot.append(draw("line", { class: "rule", x1: toX(x.low), y1: toY(x.low), x2: toX(x.high), y2: toY(x.high) }));
  else if (zero) plot.append(draw("line", { class: "rule", x1: toX(x.low), y1: toY(0), x2: toX(x.high), y2: toY(0) }));
  for (const point of points) {
    const dot = draw("circle", { class: "dot after", cx: toX(point.x), cy: toY(point.y), r: 3.2 });
    dot.append(draw("title", {}, `${point.name}: ${format(isLog ? 10 ** point.x : point.x)}, ${format(point.y)}`));
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

/** Return limits, step and ticks of an axis that holds some values; a single one has room on both sides. */
function axisOf(values, leastStep = 0) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const step = Math.max(leastStep, stepOf(most - least || Math.abs(most) / 10 || 1));
  const room = most === least ? step / 2 : 0;
  const [first, last] = [Math.floor((least - room) / step), Math.ceil((most + room) / step)];
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => {
    const at = (first + i) * step;
    return { at, text: format(Number(at.toFixed(6))) };
  });
  return { low: first * step, high: last * step, step, ticks };
}

/** Return the same of an axis of logarithms to base 10, with ticks at 1, 2 and 5 times powers of ten. */
function logAxisOf(values) {
  const marks = [Math.log10(1), Math.log10(2), Math.log10(5)];
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const all = [];
  for (let power = Math.floor(least) - 1; power <= Math.ceil(most); power++) all.push(...marks.map((mark) => power + mark));
  const low = all.findLast((at) => at < least);
  const high = all.find((at) => at > most);
  const short = new Intl.NumberFormat("en", { notation: "compact" });
  const shown = all.filter((at) => at >= low && at <= high);
  const kept = shown.length > 7 ? shown.filter((at) => Number.isInteger(at)) : shown;
  return { low, high, ticks: kept.map((at) => ({ at, text: short.format(Number((10 ** at).toPrecision(1))) })) };
}

function frame(x, y, across, up) {
  const plot = draw("svg", { viewBox: `0 0 ${SIZE.width} ${SIZE.height}`, role: "img" });
  plot.append(draw("title", {}, `${up} against ${across}; the table of images has the figures`));
  const [bottom, right] = [SIZE.height - SIZE.bottom, SIZE.width - SIZE.right];
  for (const { at: value, text } of y.ticks) {
    const at = scale(value, y.low, y.high, bottom, SIZE.top);
    plot.append(draw("line", { class: "grid", x1: SIZE.left, x2: right, y1: at, y2: at }));
    plot.append(draw("text", { class: "tick end", x: SIZE.left - 5, y: at + 3 }, text));
  }
  for (const { at: value, text } of x.ticks) {
    const at = scale(value, x.low, x.high, SIZE.left, right);
    plot.append(draw("text", { class: "tick middle", x: at, y: bottom + 14 }, text));
  }
  plot.append(draw("text", { class: "tick middle", x: (SIZE.left + right) / 2, y: SIZE.height - 5 }, across));
  return plot;
}
