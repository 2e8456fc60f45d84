"""The model: finding and loading it (loading), prompts and batches (prompts), what is trained (adapters), the training
loop (training), transcription (transcription) and the tiny model of the demo (tiny). torch lives here."""

import logging

# PEFT imports bitsandbytes, which then asks for a package that fetches compiled code from the Hub. It does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
