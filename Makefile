# Everything runs in .venv, made on first use from any Python >= 3.11 with pip. Variables to set on the command line:
#   PYTHON=python3.12        which Python makes .venv
#   TORCH='torch==2.13.0'    what pip is asked for first, e.g. a local wheel
#   WORKERS=0                pytest processes (2 unless told otherwise; 0 runs the tests in the first one, for a debugger)
#   ARGS='-k tms -x'         more arguments for pytest, or for make gpu, make toys, make story, make editing, make circuits, make mechanisms and make apd
PYTHON ?= python3
TORCH ?= torch==2.13.0
WORKERS ?= 2
ARGS ?=

PY = .venv/bin/python
STAMP := .venv/stamp-$(shell pwd -P | cksum | cut -d' ' -f1)
export PLOTLY_RENDERER ?= plotly_mimetype

.PHONY: help install demo test lab docs page bench gpu toys story editing circuits mechanisms apd smol export readme check clean

help:
	@echo "make demo    the main job on what ships in data/, writes demo.html"
	@echo "make test    export check, notebooks, tests"
	@echo "make lab     JupyterLab at the tutorials"
	@echo "make docs    the site, in _docs (needs quarto, and a chromium for the figures)"
	@echo "make page PAGE=nbs/30_edit.ipynb   one page of it, also without quarto; ARGS=--stored does not run it"
	@echo "make gpu     the same results on a GPU as on a CPU, speed and memory; make gpu ARGS='--device cpu' runs the checks at their smallest"
	@echo "make bench   timings; make toys   decompose the toys to convergence; make story ARGS=target   train the story model; make editing   edit it and measure; make circuits ARGS=edges   graphs and circuits; make mechanisms ARGS=toys   clusters and other seeds; make apd ARGS=tms   attribution-based decompositions; make smol   fetch a real language model of 135M parameters into runs/smol"
	@echo "make export  notebooks -> spd_nb; make check   fail if that changes anything, or ruff or pyright find something; make readme   README.md from nbs/index.ipynb"

install: $(STAMP)

$(STAMP): settings.ini setup.py constraints.txt
	@PYTHON="$(PYTHON)" tools/venv.sh $@ dev "$(TORCH)"

demo: $(STAMP)
	@$(PY) tools/demo.py

test: check
	@tools/browser.sh
	@tools/slurm.sh
	@$(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS) nbs tests

lab: $(STAMP)
	$(PY) -m jupyterlab --ServerApp.root_dir=nbs --LabApp.default_url=/lab/tree/tutorials $(if $(filter 0,$(shell id -u)),--allow-root)

bench gpu toys story editing circuits mechanisms apd smol: $(STAMP)
	@$(PY) tools/$@.py $(ARGS)

export: $(STAMP)
	@.venv/bin/nbdev_export && .venv/bin/nbdev_clean

readme: $(STAMP)
	@$(PY) tools/outputs.py nbs/index.ipynb && $(PY) tools/readme.py

check: $(STAMP)
	@$(PY) tools/check.py
	@.venv/bin/ruff check -q
	@.venv/bin/basedpyright --level error

docs: $(STAMP)
	@command -v quarto >/dev/null || { echo "make docs needs quarto: https://quarto.org/docs/get-started"; exit 1; }
	$(PY) -m pip install -q -e '.[dev,docs]' -c constraints.txt
	rm -rf _proc  # nbdev leaves pages in it that are no more
	$(PY) tools/exec_nbs.py nbs _exec
	$(PY) tools/demo.py
	@touch README.md  # nbdev writes it again where the copy of the index is newer
	.venv/bin/nbdev_docs --path _exec
	cp demo.html _docs/demo.html
	$(PY) tools/api_index.py _docs

page: $(STAMP)
	@$(PY) tools/page.py $(PAGE) $(ARGS)

clean:
	rm -rf _exec _proc _docs build dist *.egg-info .pytest_cache demo.html
