"""The async faces; `_sync` is generated from them by scripts/generate_sync.py."""
