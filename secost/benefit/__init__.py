"""What attention buys, from three sources that are never mixed: published, the user's own file, trained here."""
