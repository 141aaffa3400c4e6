"""Networks: tensors in, tensors out; one file each, named in the config."""
