"""The seven stages of dvc.yaml (`python -m stages.NAME`) and the packages they share.

What belongs where: `pipeline` everything about running a stage, `speech` everything about clips and text, `voxtral`
everything that needs torch, `hub` everything that talks to the Hugging Face Hub. A stage imports from these packages,
never from another stage.
"""

import os

# Between two steps torch's threads wait for each other in a loop, for 300,000 rounds unless told otherwise. Beside a
# browser or another program they spend the processor's time on that. libgomp reads this when torch is loaded; settings
# of the person's own come first. Measured in docs/performance.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
