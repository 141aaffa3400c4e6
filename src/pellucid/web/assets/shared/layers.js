"use strict";

/* Controls that pages of layers share: which are shown, and which files they are. */

/** Connect the selects that say which layer is on which side. */
function connectSides(layers, shown, refresh) {
  const set = (side, layer) => {
    if (!layer) return;
    shown[side] = layer;
    find(side).value = String(layers.indexOf(layer));
    refresh();
    say(`${side}: ${layer.name}`);
  };
  for (const side of ["left", "right"]) {
    offer(find(side), layers.map((layer, i) => [String(i), layer.name]));
    find(side).value = String(layers.indexOf(shown[side]));
    find(side).addEventListener("change", (event) => set(side, layers[Number(event.target.value)]));
  }
  const exchange = () => {
    const { left, right } = shown;
    set("left", right);
    set("right", left);
  };
  return { set, exchange };
}

/** List the files of the layers, with links where there is a way to them. */
function listFiles(list, layers) {
  // A server shows no folders, and nothing far above the page.
  const leads = (link) => link && (location.protocol === "file:" || !/^\.\.\/\.\.|\/$/.test(link));
  const items = layers.map(({ name, file, link }) => {
    const text = leads(link) ? make("a", { href: link }, file) : file;
    return make("li", {}, `${name}: `, text);
  });
  list.replaceChildren(...items);
}

/** Return what the colours of the ramp mean, from 0 to `top`. */
function rampLegend(text, top) {
  return [
    make("p", { class: "note" }, text),
    make("div", { class: "ramp", role: "img", "aria-label": `Colours from 0 to ${top}` }),
    make("div", { class: "ends" }, make("span", {}, "0"), make("span", {}, top)),
  ];
}

/** Open a page of layers: `facts` shows what the data say at once, `start` the layers once they are read. */
function openLayers(facts, start) {
  openPage((data) => {
    facts(data);
    readLayers(data)
      .then((layers) => start(data, layers))
      .then((map) => {
        find("loading").hidden = true;
        window.map = map; // for the console
        map.once("rendercomplete", () => document.body.setAttribute("data-ready", ""));
        map.render();
      })
      .catch((error) => {
        find("loading").textContent = `This browser cannot show the data: ${error.message}`;
      });
  }, true);
}
