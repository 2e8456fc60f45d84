"""The model: finding and loading it (loading), prompts and batches (prompts), what is trained (adapters), the training
loop (training), transcription (transcription) and the tiny model of the demo (tiny). torch lives here."""
