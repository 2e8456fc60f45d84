# Each target sets up what it needs. Start with: make demo
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo check pull align review repro sweep compare learning-curve recorder demo-app listen push-dataset forget test test-slow test-all bench lint clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## install the exact versions of requirements.txt into .venv

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "ownvoice needs Python 3.11 or later: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV) (a minute or two, once)"
	@$(PYTHON) -m venv $(VENV)
	@python -m stages.commands.setup
	@touch $@
	@echo "Installed"

demo: $(INSTALLED) ## run the whole pipeline on the demo clips, in .demo; your own data stays untouched
	@python -m stages.commands.demo

check: $(INSTALLED) ## say whether training and evaluation fit here, and which settings do; downloads no weights (MEMORY=24: on a GPU of 24 GB)
	@python -m stages.commands.check

pull: $(INSTALLED) ## fetch the recordings of a fresh clone from your DVC remote (docs/remotes.md)
	@python -m stages.commands.pull

# Names and numbers are taken from the environment, where make puts them: no letter of theirs is a command to the shell.
align: $(INSTALLED) ## cut long recordings by the lines of their text: write subtitles (FILE=data/raw/SOURCE/talk.wav AGREEMENT=0.7)
	@python -m stages.commands.align

review: $(INSTALLED) ## list the clips that the base model hears most differently from their text (WER=0.5)
	@python -m stages.commands.review

repro: $(INSTALLED) ## run what changed since the last time, on your recordings in data/raw
	@python -m recorder.runs

sweep: $(INSTALLED) ## try a grid of settings as experiments (GRID="train.lora.r=8,16 train.epochs=5,10")
	@python -m stages.commands.sweep $(GRID)

compare: $(INSTALLED) ## show all experiments, the best by validation first
	@python -m stages.commands.compare

learning-curve: $(INSTALLED) ## train on ever more recordings, and say what more would bring (CLIPS="10 20 50")
	@python -m stages.commands.learning_curve $(CLIPS)

recorder: $(INSTALLED) ## open the recording page, on this machine only
	@python -m streamlit run recorder/app.py

demo-app: $(INSTALLED) ## try the last result on the page that a Space would show, on this machine only (IN=.demo: that of make demo)
	@python -m stages.commands.demo_app $(IN)

push-dataset: $(INSTALLED) ## publish the recordings as a data set (params.yaml, push.dataset), without any training
	@python -m stages.commands.pull check
	@python -m dvc repro split
	@python -m stages.hub.dataset

listen: $(INSTALLED) ## copy one clip, as the model hears it, into this folder: CLIP=id
	@python -m stages.commands.listen "$$CLIP"

forget: $(INSTALLED) ## erase recordings for good: SPEAKER=name or CLIP=id; HUB=1 also what was published
	@python -m recorder.forget $(if $(SPEAKER),--speaker "$$SPEAKER") $(if $(CLIP),--clip "$$CLIP") $(if $(YES),--yes) $(if $(HUB),--hub)

# Two processes of one thread each: tests that train beside others that wait.
test test-slow: export OMP_NUM_THREADS = 1
test: $(INSTALLED) ## run the quick tests (ten minutes on two cores)
	@python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not kill"

test-slow: $(INSTALLED) ## run the others: kill sweeps, full disks, experiments, remotes
	@python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow or kill"

test-all: test test-slow ## run all tests (half an hour)

bench: $(INSTALLED) ## measure training against the plain recipe (docs/performance.md)
	@python -m tests.benchmarks.training

lint: $(INSTALLED) ## check style and formatting
	@python -m ruff check .
	@python -m ruff format --check .

clean: ## remove the demo, caches and the installed packages; recordings and results stay
	rm -rf .demo .cache $(VENV) .pytest_cache .ruff_cache
	find stages recorder tests demo_voxtral -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
