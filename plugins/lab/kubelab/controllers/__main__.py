"""Command line of the controllers."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from kubelab.client import Client
from kubelab.controllers.context import ControllerContext
from kubelab.controllers.manager import controllers, run

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.option("--server", required=True, metavar="URL", help="The API server.")
@click.option("--certificate-authority", type=_FILE, required=True, help="What its certificate is verified with.")
@click.option("--token-file", type=_FILE, required=True, help="File with the bearer token to use.")
@click.option(
    "--workloads/--no-workloads", "with_workloads", default=True, show_default=True,
    help="Node life cycle, Deployments, ReplicaSets, DaemonSets, EndpointSlices, PodDisruptionBudgets.",
)  # fmt: skip
@click.option(
    "--scheduler/--no-scheduler", "with_scheduler", default=True, show_default=True, help="Assign pods to nodes."
)
@click.option(
    "--cleanup/--no-cleanup", "with_cleanup", default=True, show_default=True,
    help="Garbage collection, the end of namespaces, default service accounts: what kubelab.apiserver does by "
    "itself unless it runs with --no-controllers.",
)  # fmt: skip
def main(
    server: str,
    certificate_authority: Path,
    token_file: Path,
    with_workloads: bool,
    with_scheduler: bool,
    with_cleanup: bool,
) -> None:
    """Run the controllers of a small cluster, until killed."""
    changed = threading.Event()
    client = Client(server, certificate_authority, token_file.read_text().strip())
    context = ControllerContext(client, lambda _key: changed.set())
    context.wait()
    chosen = controllers(
        context, changed,
        with_workloads=with_workloads, with_scheduler=with_scheduler, with_cleanup=with_cleanup,
    )  # fmt: skip
    run(chosen, changed)


if __name__ == "__main__":
    main()
