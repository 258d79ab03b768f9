"""Kubernetes' version skew policy (kubernetes.io, "Version Skew Policy"), for an upgrade in which
control planes come first and workers after them: no kubelet is newer than an API server then.
"""

from provisioning.kinds import Fault

STEP = 1
"""Minor versions that API servers of one cluster may be apart, and so an upgrade at once."""


def kubernetes(was: str, to: str) -> Fault | None:
    """was, to: such as 1.36.2."""
    before, after = _read(was), _read(to)
    if fault := no_way_back(was, to):
        return fault
    if after[0] != before[0] or after[1] - before[1] > STEP:
        says = f"{to} skips minor versions after {was}: API servers may be {STEP} apart"
        return Fault("version", says, f"Go to {before[0]}.{before[1] + STEP} first.")
    return None


def no_way_back(was: str, to: str) -> Fault | None:
    """What holds for all that keep a state of their own on disk."""
    if _read(to) >= _read(was):
        return None
    says = f"{to} is older than {was}, which members have: there is no way back"
    return Fault("version", says, f"Take {was}, or a newer one.")


def _read(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split("."))
