"""Bare models on NVIDIA Triton, over its own gRPC or HTTP: three dialects of inputs and outputs, two transports."""
