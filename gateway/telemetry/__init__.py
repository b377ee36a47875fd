"""What operators see: metrics and logs. Derived from finished request contexts; never from prompts, answers or keys."""
