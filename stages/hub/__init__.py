"""What goes to the Hugging Face Hub, and the receipts that say what went where. Imports neither torch nor audio."""
