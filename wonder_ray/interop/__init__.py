"""Other tools' workflow formats, read into definitions."""
