"""What an answer used, what it cost, and what it saved. Pure arithmetic on token counts."""
