"""The shelf of published checkpoint formats: one file each, with `FORMAT`, found by its name."""

import pkgutil

from pellucid.errors import InputError, nearest


def known_formats() -> tuple[str, ...]:
    """Return the names of the formats: their files', with hyphens."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in names if not name.startswith("_")))


def check_format(name: str) -> None:
    """Refuse a name that no file of the shelf has."""
    if name not in known_formats():
        raise InputError(f"unknown checkpoint format {name!r}{nearest(name, [*known_formats()])}")
