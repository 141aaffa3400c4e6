"""Everything that only training needs, its packages included, which are an extra."""

from importlib.util import find_spec

from pellucid.errors import InputError

for package in ("lightning", "tensorboard"):
    if find_spec(package) is None:
        raise InputError(
            f"training needs the package {package}, which is not installed; "
            "install it: pip install 'pellucid[train]'"
        )
