"""How QGIS shows a result, without a screen: in true colour, and with what was painted over it.

    sudo apt install --no-install-recommends python3-qgis qgis-providers
    QT_QPA_PLATFORM=offscreen /usr/bin/python3 benchmarks/in_qgis.py clear.tif in_qgis.png

in_qgis_painted.png is written beside it. This runs in the Python of QGIS, without pellucid. The styles beside
the files are loaded as QGIS does by itself when it opens a file; a line says how it has understood each file.
"""

import sys
from pathlib import Path

from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor

# Longer side of the picture in pixels.
SIDE = 1024


def main(result: Path, picture: Path) -> None:
    """Draw the result, and again with its painted mask over it, if there is one."""
    application = QgsApplication([], False)
    application.initQgis()
    try:
        layer = _open(result)
        _draw([layer], picture)
        painted = result.with_name(f"{result.stem}_painted.tif")
        if painted.exists():
            _draw([_open(painted), layer], picture.with_name(f"{picture.stem}_painted{picture.suffix}"))
    finally:
        application.exitQgis()


def _open(path: Path) -> QgsRasterLayer:
    """Return a file as a layer with its style, and print what QGIS knows of it."""
    layer = QgsRasterLayer(str(path), path.stem)
    if not layer.isValid():
        sys.exit(f"QGIS cannot open {path}: {layer.error().message()}")
    text, is_loaded = layer.loadDefaultStyle()
    bands = ", ".join(layer.bandName(i) for i in range(1, layer.bandCount() + 1))
    found = {"crs": layer.crs().authid(), "renderer": layer.renderer().type(), "bands": bands}
    if hasattr(layer.renderer(), "redBand"):
        renderer = layer.renderer()
        found["RGB"] = (renderer.redBand(), renderer.greenBand(), renderer.blueBand())
        stretch = renderer.redContrastEnhancement()
        found["red from, to"] = (stretch.minimumValue(), stretch.maximumValue())
    found["style"] = "loaded" if is_loaded else f"not loaded ({text})"
    sys.stdout.write(f"{path.name}: {found}\n")
    return layer


def _draw(layers: list[QgsRasterLayer], picture: Path) -> None:
    base, settings = layers[-1], QgsMapSettings()
    scale = SIDE / max(base.width(), base.height())
    settings.setOutputSize(QSize(round(base.width() * scale), round(base.height() * scale)))
    settings.setLayers(layers)
    settings.setDestinationCrs(base.crs())
    settings.setExtent(base.extent())
    settings.setBackgroundColor(QColor("white"))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    if not job.renderedImage().save(str(picture)):
        sys.exit(f"cannot write {picture}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
