"""Configuration: documents, their layers and versions, encryption."""
