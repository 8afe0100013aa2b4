"""Configuration: documents, their layers and versions, values that stay current, encryption."""
