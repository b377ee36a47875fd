"""The part of the CPU mock that its models share: tokens, scripts, guided answers, generation and counts.

Loaded by Triton's Python backend (Python 3.10 to 3.12), never by the gateway.
"""
