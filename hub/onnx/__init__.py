"""Export to ONNX: one graph from samples to scores."""
