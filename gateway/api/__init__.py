"""HTTP only: from bytes to requests, and from answers and errors to bytes. Decides nothing."""
