"""Which model: who can serve a request, and who should. Pure; calls nobody."""
