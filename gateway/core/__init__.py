"""What every floor above shares: errors, the request context, the clock. Does no I/O."""
