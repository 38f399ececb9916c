# One environment, .venv, in two steps: what the demo needs, then what the tests need.
PYTHONS := python3.11 python3.12 python3.13 python3.10 python3
PYTHON ?= $(firstword $(foreach p,$(PYTHONS),$(if $(shell $(p) -c 'import sys, venv; v = sys.version_info; v[:2] >= (3, 10) and v[:2] < (3, 14) and print(1)' 2>/dev/null),$(p))))
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test lint peers recipes bench mcu-cuts mcu-mutants fuzz corrupt clean

setup: .venv/.test

demo: .venv/.demo
	.venv/bin/medge demo

test: .venv/.test
	.venv/bin/python -m pytest

lint: .venv/.lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: .venv/.test
	.venv/bin/medge bench --json

# Foreign programs of npm that tests talk to; those of Debian are socat and mbpoll.
peers: build/peers/.done

build/peers/.done: Makefile
	npm install --silent --no-audit --no-fund --prefix build/peers \
	    node-hl7-client@3.2.0 simple-hl7@3.3.0
	touch $@

# The power fails at every write to flash of a firmware update, one after the other.
mcu-cuts: .venv/.test
	MEDGE_ALL_CUTS=1 .venv/bin/python -m pytest tests/firmware_bridge/mcu/test_mcu_power_cut.py

# Each rule of the alarm line taken away in turn: its tests must notice.
mcu-mutants: .venv/.test
	MEDGE_ALL_MUTANTS=1 .venv/bin/python -m pytest tests/firmware_bridge/mcu/test_mcu_mutants.py

# At length what the tests do for seconds: ten minutes (corrupt) and hours (fuzz) on two cores.
fuzz: .venv/.test
	.venv/bin/python tests/fuzz/decode.py --table 1000000

corrupt: .venv/.test
	.venv/bin/python tests/fuzz/corrupt.py 10000000

recipes: .venv-recipes/.done
	.venv-recipes/bin/python -m export.recipes.ecg_beat
	.venv-recipes/bin/python -m export.recipes.pneumonia
	.venv-recipes/bin/python -m export.recipes.breast_ultrasound
	.venv-recipes/bin/python -m export.recipes.icu_mortality
	.venv-recipes/bin/python -m export.recipes.icu_vitals
	.venv-recipes/bin/python -m export.recipes.symptom_text
	.venv-recipes/bin/python -m export.recipes.blood_brain_barrier
	.venv-recipes/bin/python -m export.recipes.symptom_advice
	.venv-recipes/bin/python -m export.recipes.xray_gan

.venv/.demo: pyproject.toml constraints.txt
	$(if $(PYTHON),,$(error no Python 3.10 to 3.13 with venv was found; install one or set PYTHON))
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[demo]'
	touch $@

.venv/.test: .venv/.demo
	$(PIP) -e '.[demo,test]'
	$(PIP) --no-deps bitalino  # what it depends on is for Bluetooth and wants a compiler
	touch $@

.venv/.lint: .venv/.test
	$(PIP) -e '.[lint]'
	touch $@

.venv-recipes/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-recipes
	.venv-recipes/bin/python -m pip install --quiet -c constraints.txt torch -e '.[export,openvino]'
	touch $@

clean:
	rm -rf .venv .venv-recipes build *.egg-info
