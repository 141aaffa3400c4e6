"""The shelf of published checkpoint formats: one file each, with `FORMAT`, found by its name."""

import pkgutil


def known_formats() -> tuple[str, ...]:
    """Return the names of the formats: their files', with hyphens."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name.replace("_", "-") for name in names if not name.startswith("_")))
