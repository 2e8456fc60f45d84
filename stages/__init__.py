"""The seven stages of dvc.yaml (`python -m stages.NAME`) and the packages they share.

`common` has what every stage stands on, `speech` clips, sound and text, `voxtral` what needs torch, `hub` what talks to
the Hugging Face Hub, `commands` what make calls beside the stages. A stage imports these packages, never another stage.
"""

import os

# Between two steps torch's threads wait for each other in a loop, for 300,000 rounds unless told otherwise. Beside a
# browser or another program they spend the processor's time on that. libgomp reads this when torch is loaded; settings
# of the person's own come first. Measured in docs/performance.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
