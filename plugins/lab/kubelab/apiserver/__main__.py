"""Command line of the API server."""

import ipaddress
from pathlib import Path

import click

from .auth import read_token_file
from .server import Listen, serve
from .services import Network
from .state import Settings


def _listen(_context: click.Context, _parameter: click.Parameter, text: str) -> Listen:
    try:
        return Listen.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _networks(_context: click.Context, _parameter: click.Parameter, text: str) -> list[Network]:
    try:
        return [ipaddress.ip_network(part.strip()) for part in text.split(",")]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _pairs(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    if not all("=" in text for text in given):
        raise click.BadParameter("expected SUBRESOURCE=COMMAND")
    return dict(text.split("=", 1) for text in given)


@click.command()
@click.option(
    "--listen", required=True, callback=_listen, metavar="HOST:PORT", help="Address; port 0: any free one."
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory for objects; without it they are kept in memory.",
)
@click.option("--tls-cert", type=click.Path(path_type=Path, exists=True), help="Certificate chain (PEM).")
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="Private key (PEM).")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True),
    help='Lines of token,user,uid,"groups"; turns RBAC on. Without it every caller is the administrator.',
)
@click.option("--service-cidr", "networks", default="172.16.1.0/24", callback=_networks, show_default=True,
              help="Service network, or two separated by a comma (dual stack).")  # fmt: skip
@click.option("--history", default=20_000, show_default=True, help="Changes per resource to keep for watches.")
@click.option("--bookmark-seconds", default=30.0, show_default=True, help="Seconds between watch bookmarks.")
@click.option("--max-requests-per-second", default=0, help="Answer more with 429 (0: no limit).")
@click.option(
    "--controllers/--no-controllers", default=True, show_default=True,
    help="Collect garbage, delete the content of terminating namespaces and create default service accounts, "
    "or leave that to a controller manager.",
)  # fmt: skip
@click.option(
    "--instead", multiple=True, callback=_pairs, metavar="SUBRESOURCE=COMMAND",
    help="What to run for a subresource of pods that only a kubelet serves (log, exec, attach): it gets "
    "NAMESPACE/NAME as an argument.",
)  # fmt: skip
@click.option("--ready-fd", type=int, help="File descriptor to write the URL to once requests are served.")
@click.option(
    "--ready-file", type=click.Path(path_type=Path), help="File to write the URL to once requests are served."
)
def main(
    listen: Listen,
    data_dir: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    networks: list[Network],
    history: int,
    bookmark_seconds: float,
    max_requests_per_second: int,
    controllers: bool,
    instead: dict[str, str],
    ready_fd: int | None,
    ready_file: Path | None,
) -> None:
    """Serve the Kubernetes API of a small cluster, until killed."""
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        tokens = read_token_file(token_file) if token_file else None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings = Settings(
        data_dir,
        networks,
        tokens,
        history,
        bookmark_seconds,
        max_requests_per_second,
        controllers=controllers,
        instead=instead,
    )
    tls = (tls_cert, tls_key) if tls_cert and tls_key else None
    serve(settings, listen, tls, ready_fd, ready_file)


if __name__ == "__main__":
    main()
