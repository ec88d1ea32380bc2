"""The words of the default network that plugins share: rows and names, annotations and their models, constants."""
