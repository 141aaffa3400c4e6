"use strict";

/* The page of an evaluation: means, plots, and a table of all images that can be sorted. */

openPage((data) => {
  find("subtitle").textContent = data.summary;
  describe(find("provenance"), data.provenance);
  showMeans(data);
  const show = connectTable(data);
  showPlots(data, show);
});

/** Return a figure; NaN where there is none. */
function figure(value) {
  return value === null || value === undefined ? NaN : Number(value);
}

/** Return a figure as text, with the decimals of its metric. */
function inWords(value, metric) {
  if (Number.isNaN(value)) return "–";
  return Number.isFinite(value) ? value.toFixed(metric.decimals) : "∞";
}

/** Show the means of every source over every region; (n) behind one: so many of the images have the figure. */
function showMeans(data) {
  const head = ["Pixels", "Images", "Of", ...data.metrics.map(({ label }) => label)];
  const body = data.means.map((row, i) => {
    const cells = row.values.map((value, m) => {
      const text = inWords(figure(value), data.metrics[m]);
      return make("td", {}, row.counts[m] && row.counts[m] < row.images ? `${text} (${row.counts[m]})` : text);
    });
    const kind = row.source === "model" ? { class: "model" } : {};
    const isFirst = i === 0 || data.means[i - 1].region !== row.region;
    const span = { rowspan: String(data.means.filter(({ region }) => region === row.region).length) };
    const start = [make("th", { scope: "rowgroup", ...span }, row.region), make("td", span, String(row.images))];
    return make("tr", kind, ...(isFirst ? start : []), make("th", { scope: "row", class: "text source" }, row.source), ...cells);
  });
  const cells = head.map((text) => make("th", { scope: "col", ...(text === "Of" ? { class: "text" } : {}) }, text));
  find("means").replaceChildren(make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...body));
}

/** Draw the plots; a point that is clicked shows its image. */
function showPlots(data, show) {
  const at = data.sources.indexOf("model");
  const psnr = data.metrics.findIndex(({ name }) => name === "psnr");
  const known = data.images
    .map((image, i) => ({ image, i, model: figure(image.values[0]?.[at]?.[psnr]), gain: figure(image.gains[0]) }))
    .filter(({ model, gain }) => Number.isFinite(model) && Number.isFinite(gain));
  const figures = document.querySelectorAll(".plot:not(#calibration-plot)");
  figures.forEach((each) => (each.hidden = !known.length));
  if (data.calibration) {
    find("calibration-plot").hidden = false;
    find("calibration").src = data.calibration;
  }
  if (data.curves) {
    find("training").hidden = false;
    find("curves").src = data.curves;
  }
  if (!known.length) return;
  const points = known.map(({ image, i, model, gain }) => ({ x: model - gain, y: model, name: image.key, at: i }));
  drawPoints(find("against"), points, { across: "best baseline, dB", up: "model, dB", isEqual: true }, show);
  drawHistogram(find("gains"), known.map(({ gain }) => gain), "gain, dB");
  const covered = known
    .map(({ image, i, gain }) => ({ x: 100 * figure(image.cover), y: gain, name: image.key, at: i }))
    .filter(({ x }) => Number.isFinite(x));
  find("cover-plot").hidden = !covered.length;
  if (covered.length) drawPoints(find("cover"), covered, { across: "cloud cover, %", up: "gain, dB", zero: true, within: [0, 100] }, show);
}

/** Connect the table of images; returns a function that opens the pictures of one. */
function connectTable(data) {
  const state = { column: -1, falls: false, open: new Set() };
  const [metric, region, filter] = ["metric", "region", "filter"].map(find);
  offer(metric, data.metrics.map(({ label }, m) => [String(m), label]));
  offer(region, data.regions.map((name, r) => [String(r), name]));
  const refresh = () => showTable(data, state, { metric: Number(metric.value), region: Number(region.value), part: filter.value }, refresh);
  for (const select of [metric, region]) select.addEventListener("change", refresh);
  filter.addEventListener("input", refresh);
  refresh();
  return (image) => {
    filter.value = "";
    state.open.add(image);
    refresh();
    const row = document.querySelector(`#table tr[data-image="${image}"]`);
    row.scrollIntoView({ block: "center" });
    row.querySelector("button").focus();
  };
}

/** Return the columns of the table: a name, and the value of an image. */
function columnsOf(data, metric, region) {
  const chosen = data.metrics[metric];
  const places = data.images.some(({ place }) => place) ? [{ name: "Place", value: ({ place }) => place }] : [];
  const cover = { name: "Cloudy", value: ({ cover }) => figure(cover), words: (x) => (Number.isNaN(x) ? "–" : `${Math.round(100 * x)} %`) };
  const words = (value) => inWords(value, chosen);
  const sources = data.sources.map((source, s) => ({
    name: source[0].toUpperCase() + source.slice(1),
    value: ({ values }) => figure(values[region]?.[s]?.[metric]),
    words,
  }));
  const gain = { name: "Gain dB", value: ({ gains }) => figure(gains[region]), words: (x) => inWords(x, { decimals: 2 }) };
  return [{ name: "Image", value: ({ key }) => key }, ...places, cover, ...sources, gain];
}

function showTable(data, state, { metric, region, part }, refresh) {
  const columns = columnsOf(data, metric, region);
  const wanted = part.toLowerCase();
  const shown = data.images.map((image, i) => ({ image, i })).filter(({ image }) => `${image.key} ${image.place}`.toLowerCase().includes(wanted));
  if (state.column >= 0) shown.sort((a, b) => compare(columns[state.column].value(a.image), columns[state.column].value(b.image), state.falls));
  const head = columns.map((column, c) => {
    const sort = state.column === c ? (state.falls ? "descending" : "ascending") : "none";
    const button = make("button", { type: "button", class: "sort" }, column.name);
    button.addEventListener("click", () => {
      state.falls = state.column === c && !state.falls;
      state.column = c;
      refresh();
      document.querySelectorAll("#table button.sort")[c].focus();
      say(`Sorted by ${column.name}, ${state.falls ? "falling" : "rising"}`);
    });
    return make("th", { scope: "col", "aria-sort": sort, ...(column.words || c === 0 ? {} : { class: "text" }) }, button);
  });
  const rows = shown.flatMap(({ image, i }) => rowsOf(data, state, columns, image, i));
  find("table").replaceChildren(make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows));
  find("count").textContent = `${shown.length} of ${data.images.length} images`;
}

/** Order two values, those that are missing last. */
function compare(a, b, falls) {
  const [lacksA, lacksB] = [Number.isNaN(a), Number.isNaN(b)];
  if (lacksA || lacksB) return lacksA - lacksB;
  const order = typeof a === "string" ? a.localeCompare(b) : a - b || 0;
  return falls ? -order : order;
}

/** Return the row of an image, and, where it is open, that of its pictures. */
function rowsOf(data, state, columns, image, i) {
  const isOpen = state.open.has(i);
  const name = make("th", { scope: "row" });
  const row = make("tr", { "data-image": String(i) }, name);
  const button = make("button", { type: "button", class: "open", "aria-expanded": String(isOpen) }, image.key);
  name.append(image.pictures.length ? button : image.key);
  for (const { value, words } of columns.slice(1)) {
    const found = value(image);
    row.append(make("td", words ? {} : { class: "text" }, words ? words(found) : found));
  }
  const pictures = make("tr", { class: "pictures" });
  const toggle = (opens) => {
    button.setAttribute("aria-expanded", String(opens));
    if (opens) state.open.add(i);
    else state.open.delete(i);
    if (opens) row.after(pictures);
    else pictures.remove();
    if (opens && !pictures.childElementCount) pictures.append(picturesOf(data, image, columns.length));
  };
  button.addEventListener("click", () => toggle(button.getAttribute("aria-expanded") === "false"));
  if (!isOpen || !image.pictures.length) return [row];
  pictures.append(picturesOf(data, image, columns.length));
  return [row, pictures];
}

function picturesOf(data, image, columns) {
  const figures = image.pictures.flatMap((source, p) => {
    if (!source) return [];
    const title = data.titles[p];
    return make("figure", {}, make("img", { src: source, alt: `${title} of ${image.key}` }), make("figcaption", {}, title));
  });
  return make("td", { colspan: String(columns) }, make("div", { class: "row" }, ...figures));
}
