"""Training of the routers that `gateway.classify` serves: data, fit, figures, export. The extra `postern[train]`."""
