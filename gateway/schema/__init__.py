"""The wire: OpenAI's request and response shapes, and server-sent events. Knows nothing of Postern's own notions."""
