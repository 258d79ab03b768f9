"""Stages of overclouds: one run of ansible-runner after the other, each until it went well.

A stage that failed waits for a person (`seed overcloud resume`); one that a restart cut off goes on
by itself. What it did it to is kept with it: nodes that come later make it run again. A run is
written down before it begins, so that a life that was killed in between begins no second one.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlmodel import Session, col, select

from provisioning import clusters, installer_programs
from provisioning.cluster_rows import Cluster, Member, OvercloudStage
from provisioning.installed import Installed, of
from provisioning.installers import FromProject, Installer, OvercloudFacts, Stage
from provisioning.kinds import part
from provisioning.memberships import sealed_for
from provisioning.models import now
from provisioning.outcome import Stuck, Wait
from provisioning.parts import Parts
from provisioning.playbooks import Playbooks, Run
from provisioning.states import MemberGoal, Noun, Parting, StageState
from provisioning.store import record
from provisioning.targets import PartSpec

LOOK_SECONDS, SOON = 2.0, 0.1
SETTINGS: Final = "env/settings"
LEAVE: Final = "leave "
"""Before a member's name: the stage that takes it out."""
MANY: Final = 4
DEATHS: Final = 5
"""A run that ended without a word was cut off, by a restart perhaps; so many times is a fault."""
S = StageState


def installer_of(cluster: Cluster) -> Installer | None:
    """None: it is no overcloud."""
    kind = clusters.known()[cluster.spec["kind"]]
    return kind.installer if isinstance(kind, Installed) else None


def rows_of(session: Session, cluster: Cluster) -> list[OvercloudStage]:
    """In their order; those that take members out come last."""
    query = select(OvercloudStage).where(OvercloudStage.cluster_id == cluster.id)
    return list(session.exec(query.order_by(col(OvercloudStage.number))).all())


@dataclass(frozen=True)
class Stages:
    parts: Parts

    def lacks(self, cluster: Cluster) -> Stuck | None:
        """Asked before any disk is touched. None: nothing, or it is no overcloud."""
        installer = installer_of(cluster)
        if installer is None or not installer.environment:
            return None
        books = self.parts.playbooks.get(installer.environment)
        with self.parts.store.read() as session:
            facts = _facts(session, self.parts, cluster)
        missing = "ansible-runner"
        if books is not None:
            playbooks = [stage.playbook for stage in installer.stages(facts)]
            missing = next(filter(None, map(books.lacks, playbooks)), "")
        if missing:
            return Stuck(
                f"the installer {installer.name} wants {missing}, which is not on the Seed machine",
                f"Install it, and name it in [installers.{installer.environment}] of seed.toml; "
                "then `seed down` and `seed up`.",
            )
        return _misfit(cluster, installer, books, facts) if books else None

    def drawn(self, cluster: Cluster) -> dict[str, str]:
        """Secrets that programs of its environment make, in seconds: never in a transaction."""
        installer, books = self._at(cluster)
        if books is None or not isinstance(installer, FromProject):
            return {}
        return {
            program.secret: installer_programs.run(program, books.runner, books.project)
            for program in installer.programs
        }

    def step(self, cluster: Cluster) -> Wait | Stuck | None:
        """None: all went well with the nodes of now, or there is nothing to run."""
        installer, books = self._at(cluster)
        if installer is None or books is None:
            return self.lacks(cluster)
        with self.parts.store.read() as session:
            facts = _facts(session, self.parts, cluster)
            known = {row.name: row for row in rows_of(session, cluster)}
        names = sorted(node.name for node in facts.nodes)
        stages = installer.stages(facts)
        for number, stage in enumerate(stages):
            row = known.get(stage.name)
            if row is None or row.number != number:
                return self._lay_out(cluster, stages)
            if row.state is S.DONE and not set(names) - set(row.nodes):
                continue
            return self._run(cluster, installer, books, facts, stage, row)
        return None

    def leave(self, cluster: Cluster) -> Wait | Stuck | None:
        """Take those that shall leave out of OpenStack, before their servers are given back.

        None: nobody has to be, or not yet.
        """
        installer, books = self._at(cluster)
        if installer is None or books is None:
            return None
        with self.parts.store.read() as session:
            known = {row.name: row for row in rows_of(session, cluster)}
            due = [
                m for m in leaving(session, cluster)
                if is_in(known.values(), m.name) and m.parting is not Parting.LOST
            ]  # fmt: skip
            facts = _facts(session, self.parts, cluster) if due else None
            if due and (_is_unfinished(session, cluster) or _are_coming(session, cluster)):
                return None  # whoever takes its place is installed first
        for member in due:
            stage = installer.leave(facts, (member.name,)) if facts else None
            row = known.get(LEAVE + member.name)
            if facts is None or stage is None or (row and row.state is S.DONE):
                continue
            stage = replace(stage, name=LEAVE + member.name)
            if row is None:
                return self._lay_out(cluster, [stage], begin=1000 + member.number)
            return self._run(cluster, installer, books, facts, stage, row)
        return None

    def check(self, cluster: Cluster, number: int) -> dict[str, list[str]] | Wait:
        """{item: [state, sentence]}; empty: its installer has no check."""
        installer, books = self._at(cluster)
        if installer is None or books is None:
            return {}
        with self.parts.store.read() as session:
            facts = _facts(session, self.parts, cluster)
        stage = installer.check(facts)
        if stage is None:
            return {}
        name, key = str(cluster.id), f"check-{number}"
        run = books.look(name, key)
        if run.state == "":
            inputs = self._inputs(cluster, installer, books, facts, stage)
            begun = books.begin(name, key, inputs, stage.playbook)
            return Wait("it is tried" if begun else "another run goes on", LOOK_SECONDS)
        if run.state == "running":
            return Wait(run.task or "begins", LOOK_SECONDS)
        return _items(books.told(name, key, stage.tells)) or {"": ["failed", _why(run)]}

    def clouds(self, cluster: Cluster) -> str:
        """Its clouds.yaml, with the administrator's password; empty: its installer has none."""
        installer = installer_of(cluster)
        if installer is None:
            return ""
        with self.parts.store.read() as session:
            facts = _facts(session, self.parts, cluster)
        return installer.clouds(facts, self._secrets(cluster))

    def forget(self, cluster: Cluster) -> None:
        """Its runs, with their keys. Never within a transaction: it may take seconds."""
        _installer, books = self._at(cluster)
        if books is not None:
            books.forget(str(cluster.id))
        with self.parts.store.read() as session:
            rows = rows_of(session, cluster)
        if rows:
            with self.parts.store.write() as session:
                for row in rows_of(session, cluster):
                    session.delete(row)

    def _at(self, cluster: Cluster) -> tuple[Installer | None, Playbooks | None]:
        installer = installer_of(cluster)
        books = self.parts.playbooks.get(installer.environment) if installer else None
        return installer, books

    def _lay_out(self, cluster: Cluster, stages: Sequence[Stage], begin: int = 0) -> Wait:
        """Rows for all of them, so that people see what is to come."""
        with self.parts.store.write() as session:
            known = {row.name: row for row in rows_of(session, cluster)}
            for number, stage in enumerate(stages, begin):
                row = known.get(stage.name)
                row = row or OvercloudStage(cluster_id=cluster.id, name=stage.name)
                row.number = number
                session.add(row)
        return Wait(f"stage {stages[0].name} is next", SOON)

    def _run(
        self, cluster: Cluster, installer: Installer, books: Playbooks, facts: OvercloudFacts,
        stage: Stage, row: OvercloudStage,
    ) -> Wait | Stuck:  # fmt: skip
        key = stage.name.replace(" ", "-")
        run, names = books.look(str(cluster.id), key), sorted(node.name for node in facts.nodes)
        if run.state == "running":
            self._seen(cluster, row, S.RUNNING, run)
            return Wait(f"stage {stage.name}: {run.task or 'begins'}", LOOK_SECONDS)
        if row.state is S.RUNNING and run.tries >= row.wanted:
            if run.state == "successful":
                self._seen(cluster, row, S.DONE, run)
                return Wait(f"stage {stage.name} is done", SOON)
            if run.state != "died" or books.deaths(str(cluster.id), key) >= DEATHS:
                self._seen(cluster, row, S.FAILED, run)
                return _failed(cluster, stage, run)
        if row.state is S.FAILED:
            return _failed(cluster, stage, run)
        if isinstance(installer, FromProject) and (lacks := installer.lacks(books.project, key)):
            return Stuck(f"stage {stage.name}: {lacks}", f"seed overcloud show {cluster.name}")
        goes_on = bool(books.going(str(cluster.id)))
        if not goes_on:
            self._begins(cluster, row, run.tries + 1, names)
            inputs = self._inputs(cluster, installer, books, facts, stage)
            goes_on = not books.begin(str(cluster.id), key, inputs, stage.playbook)
        doing = "another run goes on" if goes_on else f"stage {stage.name} begins"
        return Wait(doing, LOOK_SECONDS)

    def _begins(
        self, cluster: Cluster, row: OvercloudStage, tries: int, names: Sequence[str]
    ) -> None:
        with self.parts.store.write() as session:
            now_is = session.get_one(OvercloudStage, (cluster.id, row.name))
            now_is.state, now_is.wanted, now_is.tries = S.RUNNING, tries, tries
            there = {member.name for member in clusters.members(session, cluster)}
            # Whoever is to leave is still in it: that is known by these names alone.
            now_is.nodes = sorted({*names, *(there & {*now_is.nodes})})
            now_is.task, now_is.hosts = "", []
            now_is.unreachable, now_is.began_at, now_is.ended_at = False, now(), None
            session.add(now_is)
            record(
                session, "overcloud.stage", cluster.id,
                f"{cluster.name}: {row.name} begins, try {tries}", project=cluster.project,
            )  # fmt: skip

    def _seen(self, cluster: Cluster, row: OvercloudStage, state: StageState, run: Run) -> None:
        if (row.state, row.task, tuple(row.hosts)) == (state, run.task, run.hosts):
            return
        with self.parts.store.write() as session:
            now_is = session.get_one(OvercloudStage, (cluster.id, row.name))
            over = state in (S.DONE, S.FAILED) and now_is.state is not state
            now_is.state, now_is.task, now_is.hosts = state, run.task, list(run.hosts)
            now_is.unreachable, now_is.log, now_is.tries = run.unreachable, str(run.log), run.tries
            if over:
                now_is.ended_at = now()
                took = (now_is.ended_at - (now_is.began_at or now_is.ended_at)).total_seconds()
                how = "is done" if state is S.DONE else f"failed at {run.task!r}{_on(run)}"
                record(
                    session, "overcloud.stage", cluster.id, f"{cluster.name}: {row.name} {how}",
                    project=cluster.project, seconds=took,
                )  # fmt: skip
            session.add(now_is)

    def _inputs(
        self, cluster: Cluster, installer: Installer, books: Playbooks, facts: OvercloudFacts,
        stage: Stage,
    ) -> list[PartSpec]:  # fmt: skip
        """The installer's files, and how long this stage may take; the last of a path counts."""
        limits = {"job_timeout": stage.seconds, "idle_timeout": stage.seconds}
        found = [part(SETTINGS, json.dumps(limits), 0o600)]
        found += installer.tree(facts, self._secrets(cluster))
        if isinstance(installer, FromProject):
            found += installer.prepare(books.project)
        return [*{one.path: one for one in (*found, *stage.also)}.values()]

    def _secrets(self, cluster: Cluster) -> dict[str, str]:
        opened = self.parts.unseal(cluster.sealed, sealed_for(cluster.id))
        found: dict[str, str] = json.loads(opened)
        return found


def _misfit(
    cluster: Cluster, installer: Installer, books: Playbooks, facts: OvercloudFacts
) -> Stuck | None:
    """What this very project cannot do. Before any disk is touched."""
    if not isinstance(installer, FromProject):
        return None
    anew = f"seed overcloud release {cluster.name}, then create it otherwise"
    names = [stage.name for stage in installer.stages(facts)]
    if lacks := next(filter(None, (installer.lacks(books.project, name) for name in names)), ""):
        return Stuck(lacks, f"It goes on by itself once that is there; else {anew}.")
    if faults := installer.misfits(facts, books.project):
        told = "; ".join(f"{fault.field}: {fault.sentence}" for fault in faults)
        return Stuck(told, f"{faults[0].remedy} Then {anew}.")
    return None


def is_pending(session: Session, cluster: Cluster) -> bool:
    """Whether a stage is to run: a person wants it again, or it knows nothing of a node."""
    if cluster.noun is not Noun.OVERCLOUD:
        return False
    rows = [row for row in rows_of(session, cluster) if not row.name.startswith(LEAVE)]
    names = {m.name for m in clusters.members(session, cluster) if m.goal is MemberGoal.JOINED}
    return any(
        row.state in (S.WAITING, S.RUNNING) or (row.state is S.DONE and names - set(row.nodes))
        for row in rows
    )


def _is_unfinished(session: Session, cluster: Cluster) -> bool:
    """A stage is to run, or failed."""
    rows = rows_of(session, cluster)
    failed = any(r.state is S.FAILED for r in rows if not r.name.startswith(LEAVE))
    return failed or is_pending(session, cluster)


def _are_coming(session: Session, cluster: Cluster) -> bool:
    rows = clusters.members(session, cluster)
    return any(m.goal is MemberGoal.JOINED and m.joined_at is None for m in rows)


def leaving(session: Session, cluster: Cluster) -> list[Member]:
    rows = clusters.members(session, cluster)
    return [row for row in rows if row.goal is MemberGoal.LEAVING]


def is_in(rows: Iterable[OvercloudStage], name: str) -> bool:
    """Whether a stage did anything to this node."""
    return any(name in row.nodes for row in rows)


def holds(session: Session, cluster: Cluster, member: Member) -> str:
    """Why an overcloud's member is not given back yet; empty: it may be."""
    installer = installer_of(cluster)
    if installer is None or not installer.environment or member.parting is Parting.LOST:
        return ""
    rows = rows_of(session, cluster)
    own = next((row for row in rows if row.name == LEAVE + member.name), None)
    if own is not None:
        return "" if own.state is S.DONE else "is taken out of OpenStack"
    if not is_in(rows, member.name):
        return ""
    facts = of(clusters.facts_of(session, cluster))
    return "is to be taken out of OpenStack" if installer.leave(facts, (member.name,)) else ""


def of_people(session: Session, cluster: Cluster) -> str:
    """What people have to do before a node leaves; empty: its installer does it."""
    installer = installer_of(cluster)
    names = tuple(member.name for member in clusters.members(session, cluster))
    if installer is None or installer.leave(of(clusters.facts_of(session, cluster)), names):
        return ""
    return f"{installer.name} takes nobody out of OpenStack, that is yours: docs/overclouds.md"


def _facts(session: Session, parts: Parts, cluster: Cluster) -> OvercloudFacts:
    return of(clusters.facts_of(session, cluster, parts.gateway_url, parts.boot_url))


def _items(text: str) -> dict[str, list[str]]:
    try:
        told = json.loads(text)
        return {str(name): [str(one[0]), str(one[1])] for name, one in told.items()}
    except (ValueError, AttributeError, TypeError, IndexError):
        return {}


def _on(run: Run) -> str:
    more = f" and {len(run.hosts) - MANY} more" if len(run.hosts) > MANY else ""
    return f" on {', '.join(run.hosts[:MANY])}{more}" if run.hosts else ""


def _why(run: Run) -> str:
    if run.unreachable:
        return f"SSH does not reach{_on(run).removeprefix(' on')}"
    how = {"timeout": "took too long", "died": "ended without a word"}.get(run.state, "failed")
    return f"it {how} at {run.task or 'its begin'!r}{_on(run)}"


def _failed(cluster: Cluster, stage: Stage, run: Run) -> Stuck:
    """What Ansible printed stays in its log: it may have secrets."""
    return Stuck(
        f"stage {stage.name}: {_why(run)}",
        f"Who runs Seed reads why in {run.log}; mend it, then `seed overcloud resume "
        f"{cluster.name}`.",
    )
