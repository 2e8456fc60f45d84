"""The seven stages of dvc.yaml (`python -m stages.NAME`) and the packages they share.

What belongs where: `pipeline` everything about running a stage, `speech` everything about clips and text, `voxtral`
everything that needs torch, `hub` everything that talks to the Hugging Face Hub. A stage imports from these packages,
never from another stage.
"""
