"""Which model: who can serve a request, and who should. Pure, but for the exchange, which asks the store."""
