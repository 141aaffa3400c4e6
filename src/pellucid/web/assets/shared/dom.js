"use strict";

/* What every page does with the document: elements, messages to screen readers, dark and light. */

const SVG = "http://www.w3.org/2000/svg";

/** Return an element by its id. */
function find(id) {
  return document.getElementById(id);
}

/** Return a new element of HTML with attributes and children; texts stay texts. */
function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Return a new element of SVG. */
function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Return the data of the page. */
function readData() {
  return JSON.parse(find("data").textContent);
}

/** Open the page: let `show` show the data, then offer dark and light; with `waits`, it says itself when it is ready. */
function openPage(show, waits = false) {
  document.addEventListener("DOMContentLoaded", () => {
    show(readData());
    switchTheme(find("theme"));
    if (!waits) document.body.setAttribute("data-ready", "");
  });
}

/** Say something to screen readers. */
function say(text) {
  find("said").textContent = text;
}

/** Give a select its choices, [value, text] each. */
function offer(select, choices) {
  select.replaceChildren(...choices.map(([value, text]) => make("option", { value }, text)));
}

/** Return a list of terms and what they are, without those that are empty. */
function describe(list, pairs) {
  list.replaceChildren(
    ...pairs
      .filter(([, text]) => text !== "")
      .map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text))),
  );
}

/** Return a number as people read it: four digits that count, no exponent where it can be without. */
function format(number) {
  if (!Number.isFinite(number)) return "no data";
  if (Number.isInteger(number)) return String(number);
  return String(Number(number.toPrecision(4)));
}

/** Return a number as a place in a row: "2nd"; none for the first. */
function ordinal(number) {
  const endings = { 1: "st", 2: "nd", 3: "rd" };
  const isTeen = number % 100 > 10 && number % 100 < 14;
  return number === 1 ? "" : `${number}${isTeen ? "th" : (endings[number % 10] ?? "th")}`;
}

/** Let a button exchange dark and light; at first the system decides. */
function switchTheme(button, changed = () => {}) {
  const root = document.documentElement;
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colours of the page`);
    changed();
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  prefersDark.addEventListener("change", label);
  label();
}
