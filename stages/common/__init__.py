"""What every stage stands on: settings, paths, files, caches, locks, and how a stage runs. Imports nothing above it."""
