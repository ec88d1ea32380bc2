"""What makes databases, kernels and API objects agree with the items that renderers yield."""
