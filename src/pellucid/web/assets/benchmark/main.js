"use strict";

/* The page of a benchmark: models and baselines side by side, quality against cost, pictures. */

/* What models cost, for the axes of plots. */
const COSTS = {
  seconds_per_megapixel: "seconds per megapixel",
  num_parameters: "parameters",
  gflops_per_megapixel: "GFLOP per megapixel",
};

openPage((data) => {
  find("subtitle").textContent = data.summary;
  describe(find("provenance"), data.provenance);
  const region = find("region");
  offer(region, data.regions.map((name) => [name, name]));
  const refresh = () => showMeans(data, region.value);
  region.addEventListener("change", refresh);
  refresh();
  showCosts(data);
  showPublished(data);
  showPictures(data);
  showPlots(data);
});

/** Fill a table with a head and rows of cells; the first cell of each row names it. */
function fillTable(target, head, rows) {
  const cells = head.map((text) => make("th", { scope: "col" }, text));
  const body = rows.map(({ isModel, cells: [name, ...rest] }) =>
    make("tr", isModel ? { class: "model" } : {}, make("th", { scope: "row" }, name), ...rest.map((text) => make("td", {}, text))),
  );
  target.replaceChildren(make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...body));
}

/** Return a mean with its interval as text. */
function inWords(found, decimals) {
  if (!found) return "–";
  const mean = found.mean.toFixed(decimals);
  return found.low === null ? mean : `${mean} (${found.low.toFixed(decimals)} to ${found.high.toFixed(decimals)})`;
}

/** Return over how many images and places the means of a row go, at most. */
function sizeOf(row, { metrics }) {
  const found = metrics.map(({ name }) => row[name]).filter(Boolean);
  const most = (key) => Math.max(...found.map((each) => each[key]));
  return `${most("num_images")} (${most("num_places")})`;
}

function showMeans(data, region) {
  const rows = data.rows
    .filter((row) => row.region === region)
    .map((row) => ({
      isModel: row.is_model,
      cells: [row.source, sizeOf(row, data), ...data.metrics.map(({ name, decimals }) => inWords(row[name], decimals))],
    }));
  fillTable(find("means"), ["", "Images (places)", ...data.metrics.map(({ label }) => label)], rows);
}

function showCosts(data) {
  const head = ["", "Parameters", "GFLOP per Mpx", "Seconds per Mpx", "Memory MiB", "Precision", "Within 1 std"];
  const rows = data.models.map(({ name, cost, within_1_std: within, problem }) => ({
    isModel: true,
    cells: [
      name,
      ...(cost
        ? [cost.num_parameters.toLocaleString("en"), cost.gflops_per_megapixel, cost.seconds_per_megapixel, cost.peak_mib ?? NaN].map((each) => (typeof each === "string" ? each : format(each)))
        : [problem || "–", "–", "–", "–"]),
      cost ? cost.precision : "–",
      within === null ? "–" : `${Math.round(100 * within)} %`,
    ],
  }));
  fillTable(find("costs"), head, rows);
}

function showPublished(data) {
  find("published-part").hidden = !data.published.length;
  const rows = data.published.map(({ model, split, psnr, ssim, source }) => ({
    isModel: false,
    cells: [model, split, psnr.toFixed(2), ssim === null ? "–" : ssim.toFixed(3), source],
  }));
  fillTable(find("published"), ["", "Trained by the split", "PSNR dB", "SSIM", "Source"], rows);
}

function showPictures(data) {
  const rows = data.pictures.map(({ name, panels }) => {
    const figures = panels.map(({ title, source }) =>
      make("figure", {}, make("img", { src: source, alt: `${title} of ${name}` }), make("figcaption", {}, title)),
    );
    return make("div", {}, make("h3", {}, name), make("div", { class: "row" }, ...figures));
  });
  find("pictures").replaceChildren(...rows);
}

/** Draw the PSNR over cloudy pixels, or all, against what models cost. */
function showPlots(data) {
  const region = data.regions.includes("cloudy") ? "cloudy" : "all";
  const costs = { time: "seconds_per_megapixel", size: "num_parameters", flops: "gflops_per_megapixel" };
  for (const [id, cost] of Object.entries(costs)) {
    const points = data.models.flatMap((model) => {
      const row = data.rows.find(({ source, region: of, is_model: is }) => is && source === model.name && of === region);
      const value = model.cost?.[cost];
      return row?.psnr && value > 0 ? [{ x: Math.log10(value), y: row.psnr.mean, name: model.name }] : [];
    });
    find(`${id}-plot`).hidden = !points.length;
    if (points.length) drawNamed(find(id), points, COSTS[cost], `PSNR in dB, ${region} pixels`);
  }
}

/** Draw points with their names beside them. */
function drawNamed(target, points, across, up) {
  drawPoints(target, points, { across, up, isLog: true }, () => {});
  const [x, y] = [logAxisOf(points.map((point) => point.x)), axisOf(points.map((point) => point.y))];
  const plot = target.querySelector("svg");
  for (const point of points) {
    const at = scale(point.x, x.low, x.high, SIZE.left, SIZE.width - SIZE.right);
    const isRight = at > SIZE.width / 2;
    const place = { x: at + (isRight ? -6 : 6), y: scale(point.y, y.low, y.high, SIZE.height - SIZE.bottom, SIZE.top) + 3 };
    plot.append(draw("text", { class: `tick ${isRight ? "end" : ""}`, ...place }, point.name));
  }
}
