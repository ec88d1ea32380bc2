"""The commands `ovnkit lab …`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from kubelab.client import ApiError
from ovnkit_lab import labs, layout, settings, stack
from ovnkit_lab.demo import demo
from ovnkit_lab.interrupts import Interrupted, block, interruptible
from ovnkit_lab.lab import Lab
from ovnkit_lab.layout import CONTROL, DEFAULT_NAME, EXTERNAL, MAX_NODES, LabError
from ovnkit_lab.progress import Reporter
from ovnkit_lab.status import show, show_list, snapshot, summary

F = TypeVar("F", bound=Callable[..., Any])
_RUNS_COMMAND = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def name_option(command: F) -> F:
    """Add `--name`."""
    return click.option(
        "--name", default=DEFAULT_NAME, envvar="OVNKIT_LAB", show_default=True, show_envvar=True, help="The lab."
    )(command)


def up_options(command: F) -> F:
    """Add the options that `up` and `demo` share."""
    for decorate in (
        click.option("--ovn", default="", metavar="host|ROOT",
                     help="OVN to use: the host's, or that of a root directory. Default: the host's when it is "
                     "24.03 or newer, else a cached Debian 13."),
        click.option("--config", default="", metavar="FILE", help="Configuration to merge into that of ovnkit."),
        click.option("--ip-family", type=click.Choice(("ipv4", "ipv6", "dual")), default="ipv4",
                     show_default=True),
        click.option("--zones", type=click.Choice(("per-node", "central")), default="per-node", show_default=True),
        click.option("--nodes", type=click.IntRange(1, MAX_NODES), default=2, show_default=True),
    ):  # fmt: skip
        command = decorate(command)
    return command


class Commands(click.Group):
    """Commands that report a signal in one line, and exit with the code that a shell gives for it."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with interruptible():
                return super().invoke(ctx)
        except Interrupted as error:
            block()
            click.echo(f"ovnkit: {error.text}", err=True)
            raise SystemExit(error.exit_code) from None
        except ApiError as error:
            raise LabError(f"API server: {error}") from error


@click.group(cls=Commands)
def lab() -> None:
    """A whole cluster on this machine: namespaces as nodes, real OVN, real packets. Needs root.

    \b
    Example:
      ovnkit lab up --nodes 2
      eval "$(ovnkit lab env)"
      kubectl get nodes
      ovnkit lab exec default/web -- ip address
      ovnkit lab down
    """
    if os.geteuid() != 0:
        raise click.ClickException("the lab must be run as root")


@lab.command()
@name_option
@up_options
@click.option("--keep", is_flag=True, help="Keep a lab that failed to come up.")
def up(name: str, nodes: int, zones: str, ip_family: str, config: str, ovn: str, keep: bool) -> None:
    """Bring a lab up; returns when all nodes are Ready."""
    with Reporter().running() as reporter:
        made = labs.create(
            name, nodes, zones, ip_family, settings.read_user_config(config), ovn, reporter.say, keep=keep
        )
        reporter.done(f"lab {name} is up: {nodes} nodes, OVN {_version(made)}")
    click.echo(f'eval "$(ovnkit lab env --name {name})" gives kubectl and the OVN tools', err=True)


def _version(made: Lab) -> str:
    return ".".join(str(part) for part in made.install.ovn_version)


@lab.command()
@name_option
@click.option("--all", "everything", is_flag=True, help="Every lab of this machine.")
def down(name: str, everything: bool) -> None:
    """Remove a lab and everything of it. Removing a lab that doesn't exist is not an error."""
    with Reporter().running() as reporter:
        for each in labs.names() if everything else [name]:
            reporter.say(f"removing lab {each}")
            reporter.done(f"lab {each} is down" if labs.remove(each) else f"there is no lab {each}")


@lab.command("list")
@click.option("--output", "-o", type=click.Choice(("table", "json")), default="table", show_default=True)
def list_(output: str) -> None:
    """List the labs of this machine, incomplete ones included."""
    found = [summary(name) for name in labs.names()]
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        show_list(found)


@lab.command()
@name_option
@click.option(
    "--node", "chosen", default="", metavar="NODE", help="Also what makes the tools and ovnkit talk to this node."
)
def env(name: str, chosen: str) -> None:
    """Print shell exports: KUBECONFIG, OVNKIT_LAB, PATH with the lab's tools, and for each node its OVS, NB and SB
    endpoints and its ovnkit configuration.

    \b
    Examples:
      eval "$(ovnkit lab env)"; ovnkit status --config "$OVNKIT_NODE1_CONFIG"
      eval "$(ovnkit lab env --node node1)"; ovnkit status; ovn-nbctl show
    """
    opened = Lab.open(name)
    spec, files = opened.spec, opened.files
    variables = {"KUBECONFIG": str(files.kubeconfig), "OVNKIT_LAB": name, "OVNKIT_NODES": " ".join(spec.nodes)}
    if spec.kubernetes and spec.kubernetes.assets:
        variables["KUBEBUILDER_ASSETS"] = spec.kubernetes.assets
    for node in spec.nodes:
        prefix = f"OVNKIT_{node.upper().replace('-', '_')}"
        zone = files.ovn(node if spec.per_node_zones else CONTROL)
        variables[f"{prefix}_OVS"] = f"unix:{files.ovs(node) / 'db.sock'}"
        variables[f"{prefix}_NB"] = f"unix:{zone / 'ovnnb_db.sock'}"
        variables[f"{prefix}_SB"] = f"unix:{zone / 'ovnsb_db.sock'}"
        variables[f"{prefix}_CONFIG"] = str(files.config(node))
    variables["OVNKIT_CONTROL_CONFIG"] = str(files.config(CONTROL))
    if chosen:
        variables |= stack.tool_environment(spec, opened.host(chosen))
    for key, value in variables.items():
        click.echo(f"export {key}={shlex.quote(value)}")
    server = str(spec.api_link[1].ip)
    for key in ("NO_PROXY", "no_proxy"):
        click.echo(f'export {key}={server}"${{{key}:+,${key}}}"')
    click.echo(f'export PATH={shlex.quote(str(files.bin))}:"$PATH"')


def _exec(netns: str, command: Sequence[str], variables: dict[str, str]) -> None:
    """Replace this process by a command in a namespace, which takes over streams, signals and exit code."""
    # click has left the `--` in front of the command in place.
    command = command[1:] if command[:1] == ("--",) else command
    # The shell's exec gives the customary exit codes for commands that aren't there (127) or can't run (126).
    words = ["ip", "netns", "exec", netns, "sh", "-c", 'exec "$@"', "sh", *command]
    sys.stdout.flush()
    os.execvpe(words[0], words, {**os.environ, **variables})


def _tools(opened: Lab, host: str) -> dict[str, str]:
    """Environment variables with which the OVN tools reach a host's daemons."""
    path = f"{opened.files.bin}:{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    variables = {"PATH": path, "KUBECONFIG": str(opened.files.fabric_kubeconfig)}
    for key in ("NO_PROXY", "no_proxy"):
        variables[key] = ",".join(filter(None, (str(opened.spec.addresses(CONTROL)[0].ip), os.environ.get(key))))
    return {**stack.tool_environment(opened.spec, host), **variables}


@lab.command("exec", context_settings=_RUNS_COMMAND)
@name_option
@click.argument("pod", metavar="NAMESPACE/POD")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, pod: str, command: tuple[str, ...]) -> None:
    """Run a command in a pod's network namespace, with the machine's own files."""
    opened = Lab.open(name)
    namespace, slash, pod_name = pod.rpartition("/")
    namespace = namespace if slash else "default"
    for path in opened.files.pods.glob("*.json"):
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            continue
        if (record["namespace"], record["name"]) == (namespace, pod_name):
            _exec(record["netns"], command, {"OVNKIT_LAB": name, "HOSTNAME": pod_name})
    raise LabError(f"lab {name}: pod {namespace}/{pod_name} is not running")


@lab.command(context_settings=_RUNS_COMMAND)
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def node(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run a command on a node (or on `control`); ovs-vsctl, ovn-nbctl and so on talk to its daemons."""
    opened = Lab.open(name)
    _exec(opened.spec.netns(opened.host(node)), command, _tools(opened, node))


@lab.command(context_settings=_RUNS_COMMAND)
@name_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def external(name: str, command: tuple[str, ...]) -> None:
    """Run a command on the external host: on the fabric, but outside the cluster."""
    _exec(Lab.open(name).spec.netns(EXTERNAL), command, {"OVNKIT_LAB": name})


@lab.command("node-down")
@name_option
@click.argument("node")
def node_down(name: str, node: str) -> None:
    """Power a node off: disconnect its cable and kill its daemons."""
    with labs.locked(name):
        Lab.open(name).node_down(node)


@lab.command("node-up")
@name_option
@click.argument("node")
def node_up(name: str, node: str) -> None:
    """Power a node on again; returns when it is Ready."""
    with Reporter().running() as reporter, labs.locked(name):
        Lab.open(name, reporter.say).node_up(node)
        reporter.done(f"{node} is Ready")


@lab.command()
@name_option
@click.argument("node")
@click.argument("daemon")
def restart(name: str, node: str, daemon: str) -> None:
    """Restart a daemon of a node: ovs-vswitchd, ovn-controller, northd, nb, sb, ovnkit, apiserver.

    Returns when the daemon is ready; fails when it exits or isn't ready in time.
    """
    with Reporter().running() as reporter, labs.locked(name):
        host = Lab.open(name, reporter.say).restart(node, daemon)
        reporter.done(f"{daemon} of {host} is ready")


@lab.command()
@name_option
@click.option("--output", "-o", type=click.Choice(("table", "json")), default="table", show_default=True)
def status(name: str, output: str) -> None:
    """Show a lab's nodes and daemons; exit code 1 unless all run."""
    state = snapshot(Lab.open(name))
    if output == "json":
        click.echo(json.dumps(state, indent=2))
    else:
        show(state)
    sys.exit(0 if state["healthy"] else 1)


@lab.command()
@name_option
@click.option("--follow", "-f", is_flag=True, help="Keep printing what is appended to the log.")
@click.argument("node")
@click.argument("daemon", default="")
def logs(name: str, follow: bool, node: str, daemon: str) -> None:
    """Show the log of a node's daemon, or (NAMESPACE/POD [CONTAINER]) what a pod printed."""
    opened = Lab.open(name)
    if "/" in node:
        pattern = f"*/log/pods/{layout.pod_directory(*node.split('/', 1))}_*/{daemon or '*'}.log"
        files = sorted(opened.files.base.glob(pattern), key=lambda path: path.stat().st_mtime)
        if not files:
            raise LabError(f"lab {name}: there is no log of pod {node}")
        path = files[-1]
    else:
        daemons = opened.daemons(node)
        if daemon not in daemons:
            daemons = {**opened.daemons(CONTROL), **daemons}
        if daemon not in daemons:
            raise LabError(f"{node} has no daemon {daemon!r}; it has {', '.join(opened.daemons(node))}")
        path = daemons[daemon].log
    os.execvp("tail", ["tail", "-n", "+1", *(["-F"] if follow else []), str(path)])


lab.add_command(up_options(demo))
