"""The upstreams: how a model is called, and what is done when it fails. Knows calls and replies, not clients."""
