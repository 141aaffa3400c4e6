"use strict";

/* What plots have in common: their size, and steps that people read. */

const SIZE = { width: 340, height: 190, left: 40, right: 10, top: 10, bottom: 34 };

/** Map a value between two limits to a place between two others. */
function scale(value, low, high, from, to) {
  return from + ((value - low) / (high - low || 1)) * (to - from);
}

/** Return the next number of 1, 2 or 5 times a power of ten that a few steps of it reach. */
function niceAbove(value) {
  const step = stepOf(value);
  return Math.ceil(value / step) * step;
}

function stepOf(value) {
  const power = 10 ** Math.floor(Math.log10(value / 2));
  return power * [1, 2, 5, 10].find((times) => value / (times * power) <= 5);
}
