"""What all other modules use: settings, paths, files, cache, locks, DVC, how a stage runs. Imports none of them."""
