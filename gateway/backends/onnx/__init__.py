"""The `onnx` backend: a small model run by onnxruntime-genai in a worker process of the gateway's own.

The process is the point: reading a long prompt holds its interpreter for seconds, and would hold the gateway's. Both
sides meet in `wire`. The worker's side is `worker`, `lanes`, `guidance`, `text`; the gateway's `process`, `supervisor`,
`mailbox`, `engine`, `backend`. Only `lanes` imports onnxruntime-genai.
"""
