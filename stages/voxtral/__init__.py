"""The model: finding and loading it (loading), clips to batches (collation, batches), what is trained (adapters), the
training loop (training, scratch), transcription and the tiny model of the demo (tiny). torch lives here.

transformers and peft import optional packages if these are installed, which takes as long as torch itself
(`python -X importtime -c "import stages.train"`). No stage needs them there, so both libraries are imported here as if
the packages were missing. loading.use_bitsandbytes brings one of them back.
"""

import gc
import logging
import sys

OPTIONAL = ("bitsandbytes", "boto3", "datasets", "scipy")

# bitsandbytes asks for a package that fetches compiled code from the Hub. It does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def _import_libraries() -> None:
    """Import transformers and peft, without the optional packages that nothing has imported yet.

    Once imported, transformers knows what is installed; hiding it later would break it.
    """
    hidden = [name for name in OPTIONAL if name not in sys.modules and "transformers" not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None stands for a package that is not installed
    gc.disable()  # looking for garbage, of which there is none, takes a fifth of the time
    try:
        from peft.import_utils import is_bnb_4bit_available
        from transformers import AutoProcessor, Trainer, VoxtralForConditionalGeneration  # noqa: F401

        is_bnb_4bit_available()  # peft asks once, and later than at its import
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            del sys.modules[name]


_import_libraries()
