# Everything a person or CI needs. `make demo` and `make test` are enough on a fresh Debian 12 or 13
# where only git and make were installed, as root.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Outside the checkout, because the services run as users of their own who may not read /root.
PREFIX ?= /var/cache/seed/$(shell printf %s '$(CURDIR)' | sha256sum | cut -c1-12)
SHARED ?= /var/cache/seed/envs
ENVS := $(PREFIX)/envs
PY := $(ENVS)/seed/bin/python
PYTHON ?= /usr/bin/python3
export PATH := $(PATH):/usr/sbin:/sbin
unexport PYTHONDONTWRITEBYTECODE

APT_HOST := acl bubblewrap ca-certificates dnsmasq-base genisoimage iproute2 ipmitool ipxe nginx-light \
	openssh-client python3-venv qemu-utils
APT_TESTS := docker-registry
APT_IMAGES := cpio debian-archive-keyring dosfstools dpkg-dev e2fsprogs fdisk grub-efi-amd64-bin \
	grub-pc-bin grub-common kmod mmdebstrap mtools zstd
APT_LAB := ipxe-qemu libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu libvirt-daemon-system \
	openipmi ovmf python3-libvirt qemu-system-x86

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# --- environments -------------------------------------------------------------------------------

# Debian starts what it installs: its nginx and libvirtd on every address of this machine. Ours run
# elsewhere and start when told to; policy-rc.d says so while apt works.
NO_DAEMONS = printf '\043!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d

.PHONY: packages
packages:
	@mkdir -p $(PREFIX); missing=$$( { dpkg-query -W -f '$${db:Status-Status} $${Package}\n' $(APT_HOST) $(APT_IMAGES) $(APT_LAB) $(APT_TESTS) \
	    2>/dev/null || true; } | awk '$$1=="installed"{print $$2}' | sort -u | \
	    comm -13 - <(printf '%s\n' $(APT_HOST) $(APT_IMAGES) $(APT_LAB) $(APT_TESTS) | sort -u)); \
	if [ -n "$$missing" ]; then \
	    echo "installing" $$missing; \
	    apt-get update -qq; \
	    if [ ! -e /usr/sbin/policy-rc.d ]; then $(NO_DAEMONS); trap 'rm -f /usr/sbin/policy-rc.d' EXIT; fi; \
	    DEBIAN_FRONTEND=noninteractive \
	        apt-get install -y -qq --no-install-recommends $$missing >$(PREFIX)/apt.log 2>&1 \
	        || { tail -n 20 $(PREFIX)/apt.log; exit 1; }; \
	fi

# $(call env,NAME,LOCK,VENV OPTIONS): one locked environment, shared between checkouts by its digest.
define env
	@mkdir -p $(ENVS) $(SHARED); \
	digest=$$( { sha256sum < $(2); $(PYTHON) --version; echo "$(3)"; } | sha256sum | cut -c1-12); \
	dir=$(SHARED)/$(1)-$$digest; \
	if [ ! -e $$dir/.ready ]; then \
	    echo "environment $(1)"; rm -rf $$dir; $(PYTHON) -m venv $(3) $$dir; \
	    $$dir/bin/pip install -qq --disable-pip-version-check --require-hashes -r $(2); touch $$dir/.ready; \
	fi; \
	ln -sfn $$dir $(ENVS)/$(1)
endef

.PHONY: envs
envs: packages
	$(call env,ironic,locks/ironic.txt,)
	$(call env,lab,locks/lab.txt,--system-site-packages)
	$(call env,tools,locks/tools.txt,)
	$(call env,identity,locks/identity.txt,)
	$(call env,ansible,locks/ansible.txt,)
	@digest=$$( { sha256sum < locks/seed-dev.txt; $(PYTHON) --version; } | sha256sum | cut -c1-12); \
	if [ "$$(cat $(ENVS)/seed/.ready 2>/dev/null)" != $$digest ]; then \
	    echo "environment seed"; rm -rf $(ENVS)/seed; $(PYTHON) -m venv $(ENVS)/seed; \
	    $(ENVS)/seed/bin/pip install -qq --disable-pip-version-check --require-hashes -r locks/seed-dev.txt; \
	    echo $$digest > $(ENVS)/seed/.ready; \
	fi

.PHONY: env-dib
env-dib:  ## diskimage-builder, for the recipes of Ubuntu and Rocky
	$(call env,dib,locks/dib.txt,)

.PHONY: env-kolla-ansible
env-kolla-ansible:  ## Kolla-Ansible and its Ansible, for overclouds; its tests look for it
	$(call env,kolla-ansible,locks/kolla-ansible.txt,)

.PHONY: setup
setup: envs  ## packages, environments and this checkout's code, ready to run
	@$(ENVS)/seed/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation \
	    --force-reinstall .

.PHONY: locks
UV_OUT = --no-emit-index-url --no-header --generate-hashes --universal --python-version 3.11 -q
locks:  ## make locks/*.txt anew from pyproject.toml (needs uv; hashes, no index addresses)
	uv pip compile pyproject.toml --all-extras --group dev $(UV_OUT) -o locks/seed-dev.txt
	uv pip compile pyproject.toml -c locks/seed-dev.txt $(UV_OUT) -o locks/seed.txt
	for env in ansible build dib identity ironic kolla-ansible lab tools; do uv pip compile --group $$env $(UV_OUT) -o locks/$$env.txt; done
	uv pip compile --group agent --no-emit-index-url --no-header --generate-hashes -q \
	    --python-version 3.13 --python-platform x86_64-manylinux_2_28 -o images/recipes/agent.lock.txt

.PHONY: protos
protos:  ## make seed/autoscaler/*_pb2.py anew from *.proto
	$(PY) -m grpc_tools.protoc -I . --python_out=. seed/autoscaler/*.proto

# --- what people run ----------------------------------------------------------------------------

.PHONY: demo
demo: setup  ## two blank servers go from power-off to an SSH login (25 minutes the first time)
	@$(PY) -m seed.lab.demo run

.PHONY: demo-down
demo-down:  ## stop the demo: no process, bridge, namespace or domain stays
	@$(PY) -m seed.lab.demo down

# $(call phase,NAME,COMMAND): print what it is and how long it took; the first failure ends the run.
define phase
	@begin=$$(date +%s); echo "== $(1)"; $(2); \
	printf '%s\t%s\n' "$(1)" "$$(( $$(date +%s) - begin ))" | tee -a $(PREFIX)/phases \
	    | awk -F'\t' '{print "   " $$1 ": " $$2 " s"}'
endef

PYTEST = $(PY) -m pytest -q --durations=5
RACE = tests/contract/test_race.py
# Alone: a thousand clients have 30 seconds, and the machine's cores to themselves.
BESIDE = --dist loadfile --no-loadscope-reorder
# Modules wait a good part of their time: three at a time for two cores, each in namespaces of its
# own; of e2e the two beside each other, which say nothing meanwhile, but at the end (-rP).
KILLED = $(addprefix tests/integration/test_,crashes.py rotation.py)
# A process dies at each step, dozens of times, and each of its lives has a limit in seconds.
# The chain of e2e has one server for its last third, and uses one core: what needs no more than the
# other follows the room. The last of it boots a server, and has a limit in seconds, too.
AFTER = $(addprefix tests/,contract/test_reproducible.py integration/test_ansible.py \
	integration/test_kubespray.py integration/test_node_networks.py)

.PHONY: lint
lint:
	$(call phase,format,$(ENVS)/seed/bin/ruff format --check .)
	$(call phase,lint,$(ENVS)/seed/bin/ruff check .; $(ENVS)/seed/bin/deptry . 2>&1 | grep -v Assuming)
	$(call phase,types,$(ENVS)/seed/bin/mypy)
	$(call phase,import contracts,$(ENVS)/seed/bin/lint-imports --no-cache)

.PHONY: test
test:  ## everything: set-up, lint, types, contracts, unit, contract, integration, e2e (80 minutes)
	@mkdir -p $(PREFIX); rm -f $(PREFIX)/phases
	$(call phase,set-up,$(MAKE) --no-print-directory setup env-kolla-ansible)
	@$(MAKE) --no-print-directory lint
	$(call phase,unit,$(PYTEST) -n auto --dist worksteal tests/unit)
	$(call phase,contract,$(PYTEST) -n 4 --dist worksteal tests/contract $(addprefix --ignore ,$(RACE) $(AFTER)))
	$(call phase,race,$(PYTEST) $(RACE))
	$(call phase,integration,$(PYTEST) -n 3 $(BESIDE) tests/integration $(addprefix --ignore ,$(KILLED) $(AFTER)))
	$(call phase,killed,$(PYTEST) -n 2 $(BESIDE) $(KILLED))
	$(call phase,e2e,$(PYTEST) -n 2 $(BESIDE) -rP tests/e2e $(AFTER))
	@$(PY) -m tests.slow.stale
	@echo "== phases (seconds)"; expand -t 20 $(PREFIX)/phases

.PHONY: bench
bench: APT_LAB += nmap wrk
bench: setup  ## figures against peers, one JSON line each: make bench [ROW=name]
	@$(PY) -m tests.bench $(ROW)

# --- on this host, for good -----------------------------------------------------------------------

ROOT ?= /opt/seed
IN_ROOT = $(MAKE) -s PREFIX=$(ROOT) SHARED=$(ROOT)/envs APT_LAB=
INSTALLED = env -u SEED_CONFIG $(ROOT)/envs/seed/bin/python -I -m seed.host.install
BUILD = $(ROOT)/build
ifneq ($(WHEELS),)
install: export PIP_NO_INDEX = 1
install: export PIP_FIND_LINKS = $(abspath $(WHEELS))
endif

.PHONY: install
install:  ## Seed on this Debian with systemd; WHEELS=folder: without an index; ROOT=/opt/seed
	@if [ -x $(ROOT)/envs/seed/bin/python ]; then $(INSTALLED) rest; fi
	@mkdir -p $(ROOT); $(IN_ROOT) packages
	@$(IN_ROOT) root-envs
	@echo "this checkout's code"; rm -rf $(BUILD); $(PYTHON) -m venv $(BUILD); \
	pip="$(BUILD)/bin/pip -qq --disable-pip-version-check"; \
	$$pip install --require-hashes -r locks/build.txt; \
	$$pip wheel --no-deps --no-build-isolation -w $(BUILD) .; \
	$(ROOT)/envs/seed/bin/pip -qq --disable-pip-version-check install --no-deps --no-index \
	    --force-reinstall $(BUILD)/*.whl; rm -rf $(BUILD)
	@$(INSTALLED) put

.PHONY: root-envs
root-envs:
	$(call env,ironic,locks/ironic.txt,)
	$(call env,tools,locks/tools.txt,)
	$(call env,ansible,locks/ansible.txt,)
	$(call env,seed,locks/seed.txt,)
	@cd $(ENVS); for dir in *-*; do \
	    [ "$$(readlink -f $${dir%-*})" = "$$(readlink -f $$dir)" ] || rm -rf "$$dir"; done

.PHONY: uninstall
uninstall:  ## remove what install made; PURGE=1: databases, keys, images and settings, too
	@if [ -x $(ROOT)/envs/seed/bin/python ]; then $(INSTALLED) remove $(if $(PURGE),--purge); \
	    rm -rf $(ROOT); else echo "Seed is not installed in $(ROOT)"; fi

.PHONY: package-names
package-names:
	@echo $(APT_HOST) $(APT_IMAGES)

.PHONY: wheels
wheels: envs  ## DEST=folder: everything that `make install WHEELS=folder` needs
	@[ -n "$(DEST)" ] || { echo "make wheels DEST=/path"; exit 2; }
	@$(PY) -m seed.host.wheels $(DEST)

.PHONY: test-slow
test-slow: setup  ## what takes too long for CI: a Debian with systemd; rows of docs/slow-lane.md
	@$(PY) -m pytest -m slow tests/slow
