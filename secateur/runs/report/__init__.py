"""Tables, pictures and one self-contained page, from the recipe and the journal alone."""
