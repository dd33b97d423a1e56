"""Networks of the user's own: their code, of which only what defines something runs."""
