"""The link to Redis and its in-process twin, behind one port. Knows keys and bytes, not what they mean."""
