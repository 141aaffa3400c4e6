"""Loss terms in image space: one file per term, found by its name, each a mean per valid pixel."""
