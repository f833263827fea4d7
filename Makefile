# make demo    a trained model, compiled and run on emulated Cortex-M boards; one learns there, one is
#              protected and stolen
# make test    lint, then the tests
# make fuzz    the properties of the tests on examples that were never tried, ROUNDS times
# make lint    ruff and pyright
# make docs    the documentation as a site, in out/site
# make bench   real networks on all cores, beside other engines (needs the shared models)
# make clean   removes everything that was built

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
WORKERS ?= 2
ROUNDS ?= 3

.PHONY: all demo test fuzz lint docs bench clean
all: $(READY)

$(READY): pyproject.toml .ci/constraints.txt .ci/setup
	@PYTHON=$(PYTHON) .ci/setup

demo: $(READY)
	$(BIN)/tinsmith demo -o out/demo --model digits_dscnn --model digits_resnet \
	  --board mps2-an386 --board mps2-an500 --board mps3-an547
	$(BIN)/tinsmith demo-training -o out/demo
	$(BIN)/tinsmith demo-trust -o out/demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/pytest -n $(WORKERS)

fuzz: $(READY)
	for round in $$(seq $(ROUNDS)); do \
	  TINSMITH_PROPERTIES=fuzz $(BIN)/pytest -n $(WORKERS) -m hypothesis || exit 1; \
	done

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench_inference.py --readme README.md \
	  --docs docs/inference-cost.md -o out/bench

clean:
	rm -rf build out dist compiler/tinsmith.egg-info .pytest_cache .ruff_cache .hypothesis
