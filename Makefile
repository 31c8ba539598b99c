# make demo   train and evaluate a small Rank-DETR on the sample data (17 minutes on 2 cores beside other work)
# make test   lint and run the tests
# make gpu-check   check and measure this toolbox on a GPU, in at most 8 minutes
# make docs   the documentation as a site: output/site/index.html
# All create .venv and install everything into it first. PYTHON picks the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG := projects/rank_detr/configs/rank_detr_efficientnet_lite0_sample_data.py
DATA := output/sample_data

.PHONY: install demo test gpu-check docs lint clean

install: $(READY)

$(READY): setup.py $(wildcard requirements/*.txt) tools/install_detectron2.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "1/3 torch and torchvision, unless $(VENV) has them (the default build: about 5 GB)"
	$(BIN)/python -m pip install --quiet torch torchvision
	@echo "2/3 detrex from this folder and what it needs for demo, documentation, report and tests"
	$(BIN)/python -m pip install --quiet --editable ".[demo,docs,report,test]"
	@echo "3/3 detectron2, the pinned wheel"
	bash tools/install_detectron2.sh $(BIN)/python
	touch $@

demo: $(READY)
	$(BIN)/python tools/make_sample_data.py --output $(DATA)
	$(BIN)/python tools/make_sample_weights.py -o output/efficientnet_lite0.pth
	$(BIN)/python projects/rank_detr/train_net.py --config-file $(CONFIG) --resume
	$(BIN)/python tools/visualize_predictions.py output/demo/coco_instances_results.json \
		--json $(DATA)/val.json --images $(DATA)/val -o output/demo/contact_sheet.png
	$(BIN)/python tools/analyze_alignment.py --config-file $(CONFIG) \
		train.init_checkpoint=output/demo/model_final.pth -o output/demo/alignment
	$(BIN)/python tools/report.py output/demo -o output/demo/report.html
	@echo "what next? (the report: output/demo/report.html)"
	@echo "  source $(BIN)/activate"
	@echo "  python tools/predict.py output/demo/config.yaml output/demo/model_final.pth $(DATA)/val -o output/demo/pictures"
	@echo "  python tools/check_dataset.py FOLDER --model small   # your images with boxes, in any usual layout"
	@echo "  python projects/rank_detr/train_net.py --config-file output/data/FOLDER/small.py   # as it prints"

# The simulated accelerator first, in processes without other tests: PyTorch takes no device after its
# first backward pass.
test: $(READY) lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/accelerator
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --ignore tests/accelerator

gpu-check: $(READY)
	$(BIN)/python tools/gpu_check.py

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) output
