"""Postern: an OpenAI-compatible gateway that sends each request to the cheapest model that will answer it well."""

import os

# Unless they find this, the wheels of onnxruntime and onnxruntime-genai report to Microsoft from their import on. Here,
# as whatever imports them has imported this first, and what is started from here inherits it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
