# make demo: install what rendering needs and run the main job on the embedded model and a real clip.
# make test: install all and pass the tests. Everything lands in .venv, build and out.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
RUNTIME := .venv/.runtime
STAMP := .venv/.installed
# Modules are compiled when they are first imported: most of what is installed never is, and compiling it takes a minute.
# The constraints hold inside pip's build environment too: older versions of pip take the first name, newer the second.
INSTALL = PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --no-compile -c constraints.txt
# What an editable install does not follow by itself.
INSTALLED_FROM := pyproject.toml constraints.txt CMakeLists.txt $(wildcard kernels/native/*)

# Blender as a Python module, for the tests that run in it: an environment each, because each pins its numpy.
# `make bpy BLENDERS="42 45 50 52"` and then VERA_BLENDERS=42,45,50,52 test more of them; 5.2 wants Python 3.13.
BLENDERS ?= 45 50
BPY_42 := 4.2.23
BPY_45 := 4.5.15
BPY_50 := 5.0.1
BPY_52 := 5.2.3
PYTHON_52 ?= python3.13

.PHONY: setup lock lock-check lint test records bytecode axe pictures fuzz fault-test mutants gpu-test gpu-bench bpy blender-addon demo nuke-plugin clean

setup: $(STAMP)

$(RUNTIME): $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e .
	touch $(RUNTIME)

$(STAMP): $(INSTALLED_FROM)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e '.[test]'
	touch $(RUNTIME) $(STAMP)

# Pins of everything that gets installed, and whether they can be: tools/lock.py.
TOOLS := build/tools/bin/python

$(TOOLS): constraints.txt
	$(PYTHON) -m venv build/tools
	$(TOOLS) -m pip install -q -c constraints.txt uv
	touch $(TOOLS)

lock: $(TOOLS)
	$(TOOLS) tools/lock.py write $(if $(UPGRADE),--upgrade)

lock-check: $(TOOLS)
	$(TOOLS) tools/lock.py check $(EXTRAS)

# Style and types.
lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python tools/typecheck.py

# Three processes on two cores, one thread each: tests wait a third of their time for services, browsers and processes,
# and threads of torch that wait for one another are slower than one alone.
# What is installed beside the package is so at the same time as it, and while mypy runs on one core.
# Bytecode is kept, whatever the environment says: else each of a hundred processes compiles torch, and pytest the tests.
test: export PYTHONDONTWRITEBYTECODE =
test:
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint bpy axe bytecode
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal

# Compile what the tests import, once and beside mypy, and not in each of their processes. Errors are the test run's.
bytecode: setup
	@-OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -q --collect-only > /dev/null 2>&1

# The recorded results of tests/recorded, written again; prints what has changed. ONLY="plate render" names packages.
records: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.recorded $(ONLY)

bpy: $(BLENDERS:%=.venv-bpy%/.installed)

# Where it cannot be had, its tests are skipped and say why.
.venv-bpy%/.installed:
	@test -x $(@D)/bin/python || $(or $(PYTHON_$*),$(PYTHON)) -m venv $(@D) || mkdir -p $(@D)
	@if $(@D)/bin/python -m pip install --no-compile bpy==$(BPY_$*) > $(@D)/install.log 2>&1; then touch $@; \
	else echo "Blender $(BPY_$*) was not installed, its tests will be skipped; see $(@D)/install.log"; fi

# axe-core, for the tests of the pages. Where npm is not at hand, they are skipped.
axe: tools/axe/node_modules/axe-core/package.json

tools/axe/node_modules/axe-core/package.json: tools/axe/package-lock.json
	@npm ci --prefix tools/axe --no-audit --no-fund > /dev/null 2>&1 && touch $@ \
	    || echo "axe-core was not installed (npm ci --prefix tools/axe), its tests will be skipped"

# The pictures of README and docs that are older than what they show; pages need chromium and chromedriver.
pictures: setup
	$(BIN)/python -m tools.pictures

# dist/vera-VERSION.zip, to drop onto Blender.
blender-addon:
	$(PYTHON) blender_addon/build.py dist

# On a machine with a GPU: the kernels' tests in bf16, and the benchmarks' rows. Nothing is installed: what they need is
# torch, triton, numpy, safetensors and pytest, of GPU_PYTHON or of the installed environment.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

gpu-test:
	$(GPU_PYTHON) -m pytest -q -m gpu tests/kernels/test_gpu.py

gpu-bench:
	$(GPU_PYTHON) -m benchmarks.gpu

# Small faults planted one at a time in a copy, and how many of them the tests notice: tools/mutants.py.
MUTANTS := build/mutants/bin/python

$(MUTANTS): constraints.txt
	$(PYTHON) -m venv build/mutants
	$(MUTANTS) -m pip install -q -c constraints.txt cosmic-ray

mutants: setup $(MUTANTS)
	$(MUTANTS) tools/mutants.py $(if $(SAMPLE),--sample $(SAMPLE)) $(ONLY)

# The fault tests of the service, the farm and training at full length; `make test` runs a short form.
fault-test: setup
	VERA_FAULTS=$(or $(KILLS),100) VERA_FUZZ=5000 $(BIN)/python -m pytest -q tests/service tests/farm tests/training/full/test_signals.py

# Damaged plates, masks, jobs, manifests, states, discovery files, requests and folders; what is found is in out/fuzz.
# 2,000 mutations of an output folder and of each JSON, 1,000 of each kind of media and of a model's folder, 50 starts of
# two to eight processes in one folder, 200 hostile answers, 1,000 held connections: some 25 minutes of one core.
# Files are flushed one by one: with FUZZ_DISK=/dev/shm/fuzz, in memory, it is several times faster.
fuzz: setup
	OMP_NUM_THREADS=1 VERA_FUZZ=$(or $(FUZZ),2000) VERA_STARTS=$(or $(STARTS),50) $(BIN)/python -m pytest -q \
	    -o tmp_path_retention_policy=failed $(if $(FUZZ_DISK),--basetemp=$(FUZZ_DISK)) tests/fuzz \
	    tests/layer/test_folder_trust.py tests/service/test_client_hostile.py tests/service/test_api.py \
	    tests/service/test_connections.py

demo: $(RUNTIME)
	$(BIN)/python -m core.render demo/job.json

# Needs Python alone: a zip, and a folder for NUKE_PATH, in dist/.
nuke-plugin:
	$(PYTHON) nuke_plugin/build.py dist

clean:
	rm -rf .venv .venv-bpy* build dist out .pytest_cache tools/axe/node_modules kernels/_native*.so
	find core kernels tests -name __pycache__ -type d -prune -exec rm -rf {} +
