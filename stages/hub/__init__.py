"""All that talks to the Hugging Face Hub, and the receipts of what was published. Imports neither torch nor audio."""
