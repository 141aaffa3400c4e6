"""Made-up Sentinel-2 products with the names, metadata and files of real ones."""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine

from pellucid.data.band_names import LEVEL_2A
from pellucid.data.ranges import SENTINEL2
from pellucid.data.safe_product import NATIVE_M

START, TILE, UPPER_LEFT = "20230601T101031", "T33UUP", (300_000, 5_600_040)
# Multiples of 6, so that pixels of 60 m fit; a cloud map says 90 % where it is cloudy.
SIDE, SURE = 120, 90


def ramps(count: int, side: int = SIDE) -> NDArray[np.uint16]:
    """Return (count, side, side) digital numbers that bilinear interpolation keeps exactly."""
    rows, columns = np.mgrid[:side, :side]
    return np.stack([2000 + 100 * i + 6 * rows + 12 * columns for i in range(count)]).astype(np.uint16)


def write_product(
    folder: Path,
    *,
    level: str = "L2A",
    baseline: str = "05.10",
    values: NDArray[np.uint16] | None = None,
    offsets: Sequence[int] | None = (-1000,) * 13,
    quantification: int = 10_000,
    classes: NDArray[np.uint8] | None = None,
    probability: NDArray[np.uint8] | None = None,
) -> Path:
    """Write a product and return its folder.

    Args:
        folder: that the product lies in.
        level: L1C or L2A.
        baseline: of the processing, which names the folder.
        values: (bands of the level, H, W) digital numbers at 10 m; coarser bands become means of them.
        offsets: of all 13 bands; None, as before baseline 04.00: the metadata has none.
        quantification: digital number of reflectance 1.
        classes: (H / 2, W / 2) scene classification, and likewise the probability of cloud in percent.
    """
    bands = SENTINEL2.bands if level == "L1C" else LEVEL_2A
    values = ramps(len(bands)) if values is None else values
    name = f"S2A_MSI{level}_{START}_N{baseline.replace('.', '')}_R022_{TILE}_20230601T161234.SAFE"
    product, granule = folder / name, f"GRANULE/{level}_{TILE}_A041478_20230601T101027"
    images = []
    for band, image in zip(bands, values, strict=True):
        metres = NATIVE_M.get(band, 20)
        places = [metres] if level == "L1C" else [each for each in (10, 20, 60) if each >= metres]
        for place in places:
            where, end = ("", "") if level == "L1C" else (f"R{place}m/", f"_{place}m")
            images.append(f"{granule}/IMG_DATA/{where}{TILE}_{START}_{band}{end}")
            write_jp2(product / f"{images[-1]}.jp2", shrink(image, place // 10), place)
    if classes is not None:
        images.append(f"{granule}/IMG_DATA/R20m/{TILE}_{START}_SCL_20m")
        write_jp2(product / f"{images[-1]}.jp2", classes, 20)
    if probability is not None:
        write_jp2(product / granule / "QI_DATA/MSK_CLDPRB_20m.jp2", probability, 20)
    (product / f"MTD_MSI{level}.xml").write_text(
        metadata(level, name, baseline, images, offsets, quantification), encoding="utf-8"
    )
    write_manifest(product)
    (product / granule / "MTD_TL.xml").write_text("<tile/>")
    return product


def metadata(
    level: str,
    name: str,
    baseline: str,
    images: list[str],
    offsets: Sequence[int] | None,
    quantification: int,
) -> str:
    """Return the text of the metadata file."""
    number = level[1:]
    files = "".join(f"<IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    tag, group = ("RADIO_ADD_OFFSET", "Radiometric_Offset_List")
    units = f'<QUANTIFICATION_VALUE unit="none">{quantification}</QUANTIFICATION_VALUE>'
    if level == "L2A":
        tag, group = ("BOA_ADD_OFFSET", "BOA_ADD_OFFSET_VALUES_LIST")
        value = f'<BOA_QUANTIFICATION_VALUE unit="none">{quantification}</BOA_QUANTIFICATION_VALUE>'
        units = f"<QUANTIFICATION_VALUES_LIST>{value}</QUANTIFICATION_VALUES_LIST>"
    if offsets is not None:
        each = "".join(f'<{tag} band_id="{i}">{offset}</{tag}>' for i, offset in enumerate(offsets))
        units += f"<{group}>{each}</{group}>"
    space = f"https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{number}.xsd"
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{number}_User_Product xmlns:n1="{space}">
<n1:General_Info><Product_Info>
<PRODUCT_START_TIME>2023-06-01T10:10:31.024Z</PRODUCT_START_TIME><PRODUCT_URI>{name}</PRODUCT_URI>
<PROCESSING_LEVEL>Level-{number}</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
<Datatake><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME></Datatake>
<Product_Organisation><Granule_List><Granule imageFormat="JPEG2000">{files}</Granule></Granule_List>
</Product_Organisation></Product_Info>
<Product_Image_Characteristics><Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT>
<SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>{units}</Product_Image_Characteristics>
</n1:General_Info><n1:Quality_Indicators_Info>
<Cloud_Coverage_Assessment>37.5</Cloud_Coverage_Assessment>
</n1:Quality_Indicators_Info></n1:Level-{number}_User_Product>"""


def write_manifest(product: Path, kind: str = "SHA3-256") -> None:
    """Write the manifest of a product, with the digests of its images."""
    streams = ""
    for path in sorted(product.rglob("*.jp2")):
        digest = hashlib.new(kind.lower().replace("-", "_"), path.read_bytes()).hexdigest().upper()
        place = f'<fileLocation locatorType="URL" href="./{path.relative_to(product).as_posix()}"/>'
        about = f'<checksum checksumName="{kind}">{digest}</checksum>'
        streams += (
            f'<dataObject><byteStream size="{path.stat().st_size}">{place}{about}</byteStream></dataObject>'
        )
    text = f"<dataObjectSection>{streams}</dataObjectSection>"
    space = "urn:ccsds:schema:xfdu:1"
    (product / "manifest.safe").write_text(f'<xfdu:XFDU xmlns:xfdu="{space}">{text}</xfdu:XFDU>')


def zip_product(product: Path) -> Path:
    """Return an archive of a product, beside it."""
    path = product.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(product.rglob("*")):
            archive.write(each, each.relative_to(product.parent))
    return path


def shrink(image: NDArray[np.uint16], factor: int) -> NDArray[np.uint16]:
    """Return the means of blocks of pixels."""
    height, width = (side // factor for side in image.shape)
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return np.rint(blocks.mean(axis=(1, 3))).astype(image.dtype)


def write_jp2(path: Path, image: NDArray[np.generic], metres: int) -> None:
    """Write a band without loss, as products have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = Affine(metres, 0, UPPER_LEFT[0], 0, -metres, UPPER_LEFT[1])
    profile = {"driver": "JP2OpenJPEG", "count": 1, "dtype": image.dtype, "crs": "EPSG:32633"}
    size = {"height": image.shape[0], "width": image.shape[1], "transform": place}
    with rasterio.open(path, "w", **profile, **size, QUALITY="100", REVERSIBLE="YES") as file:
        file.write(image, 1)
