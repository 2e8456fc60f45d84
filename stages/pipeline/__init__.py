"""How a stage runs: settings (params), folders (paths), files written whole (files), the content cache (cache),
errors and progress lines (stage). Nothing here knows about sound, and nothing here imports torch."""
