"""The configuration: what an operator may set, how a file becomes one frozen value, and what is told when it cannot."""
