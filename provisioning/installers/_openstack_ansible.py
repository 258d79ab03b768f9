"""What people do with OpenStack-Ansible's files, in order."""

from provisioning.installers import OvercloudFacts
from provisioning.installers._documents import steps


def readme(facts: OvercloudFacts, release: str) -> str:
    """Commands: deploy-guide/source/configure.rst of openstack/openstack-ansible at 14bec2f, and
    osa_toolkit/generate.py at 79d29b9. release: where none was asked for."""
    title = f"OpenStack-Ansible for the overcloud {facts.name}"
    return f"{title}\n\n{_order(facts, release)}\n{_not(facts)}"


def _order(facts: OvercloudFacts, release: str) -> str:
    folder, here = "/opt/openstack-ansible", "/etc/openstack_deploy"
    return steps(
        (
            f"On the deployment host, which is none of the nodes: have the branch "
            f"stable/{facts.release or release}",
            f"of openstack-ansible in {folder}, then as root:",
            f"  cd {folder} && scripts/bootstrap-ansible.sh",
        ),
        (
            "Its configuration, and these files over it:",
            f"  cp -a {folder}/etc/openstack_deploy /etc/",
            f"  cp openstack_user_config.yml user_variables.yml {here}/",
        ),
        (
            "Passwords. Seed makes none and knows none:",
            f"  cd {folder} && ./scripts/pw-token-gen.py --file {here}/user_secrets.yml",
        ),
        (
            "Into used_ips, what Seed does not know: addresses of the deployment host, the Seed",
            "machine, routers and switches in these networks. Containers would get them.",
        ),
        (
            "Its public key as root's on each node, and a look at the configuration:",
            f"  {folder}/inventory/dynamic_inventory.py --config {here} --check",
        ),
        (
            "Then, one after the other:",
            "  openstack-ansible openstack.osa.setup_hosts",
            "  openstack-ansible openstack.osa.setup_infrastructure",
            "  openstack-ansible openstack.osa.setup_openstack",
        ),
    )  # fmt: skip


def _not(facts: OvercloudFacts) -> str:
    words = []
    if len(facts.of("control")) < 3:
        words.append(
            f"Warning: {len(facts.of('control'))} infrastructure host. Database and message queue\n"
            "end with it; OpenStack-Ansible recommends three."
        )
    if facts.of("storage"):
        words.append(
            "storage_hosts have no cinder_backends: write them into container_vars of each host.\n"
            "Disks that were asked for are blank."
        )
    alone = [node.name for node in facts.of("monitoring") if node.roles == ("monitoring",)]
    if alone:
        words.append(f"In no group, as there is none for monitoring: {', '.join(alone)}.")
    if facts.registry:
        words.append("OpenStack-Ansible takes no container images: the registry is not used.")
    return "".join(f"{word}\n" for word in words)
