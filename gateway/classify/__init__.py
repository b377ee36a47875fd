"""How hard is this request: text features, the ONNX classifier that reads them, and the guard that bounds its time."""
