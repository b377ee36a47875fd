"""What makes OpenAI's answers of a bare model's text: prompts, counts, tool calls, stops, bodies and chunks."""
