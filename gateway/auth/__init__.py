"""Who is calling. Knows client keys by their hashes only; decides nothing about models."""
