"""The session against real servers: lost, killed, moved, encrypted."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from ovnkit.api.identity import RowId
from ovnkit.api.items import Row, Slot
from ovnkit.sinks.ovsdb.session import Session
from ovnkit.sinks.ovsdb.wire.endpoint import Tls
from ovnkit.testing.ovsdb import OvsdbServer

DB = "OVN_Northbound"
SWITCH = RowId("test", "things", "sw", "switch")


def port(name: str) -> Row:
    return Row("Logical_Switch_Port", "lsp", {"name": name}, Slot("Logical_Switch", SWITCH, "ports"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def eventually(check: Any, what: str, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_server_killed_and_restarted_under_load(folder: Path, rigs: Any) -> None:
    server = OvsdbServer(folder / "nb").start()
    try:
        server.transact(DB, [{"op": "insert", "table": "NB_Global", "row": {}}])
        rig = rigs(server.endpoint, batch_rows=20)
        rig.want("sw", Row("Logical_Switch", "switch", {"name": "n1"}))
        for number in range(300):
            rig.want(f"p{number}", port(f"p{number}"))
            if number in (80, 160, 240):
                rig.sink.flush()
                written = rig.sink.rows_written
                rig.loop.until(lambda written=written: rig.sink.rows_written > written)
                server.kill()
                server.start()
        rig.quiet()
        rows = server.rows("Logical_Switch_Port")
        assert {row["name"] for row in rows} == {f"p{n}" for n in range(300)}
        assert rig.session.reloads >= 3
        assert not rig.reports
    finally:
        server.stop()


def test_transaction_without_connection_is_refused_at_once(folder: Path, rigs: Any) -> None:
    rig = rigs(f"unix:{folder}/nothing.sock")
    errors: list[Any] = []
    rig.session.transact([], lambda _, error: errors.append(error))
    rig.loop.until(lambda: errors)
    assert "nb" in str(errors[0])
    eventually(lambda: rig.loop.until(lambda: True) or rig.session.last_error, "the cause is shown")
    assert "nothing.sock" in rig.session.last_error
    assert not rig.sink.ready


def test_transactions_larger_than_the_socket_takes_go_in_order(nb: OvsdbServer, rigs: Any) -> None:
    rig = rigs(nb.endpoint)
    rig.loop.until(lambda: rig.session.loaded)
    insert = {"op": "insert", "table": "Logical_Switch", "row": {"external_ids": ["map", [["k", "x" * 2000]]]}}
    select = {"op": "select", "table": "Logical_Switch", "where": [], "columns": ["_uuid"]}
    found: list[Any] = []
    rig.session.transact([insert] * 1000, lambda results, _: found.append(len(results)))
    rig.session.transact([select], lambda results, _: found.append(len(results[0]["rows"])))
    rig.session.transact([insert], lambda results, _: found.append(len(results)))
    rig.session.transact([select], lambda results, _: found.append(len(results[0]["rows"])))
    rig.loop.until(lambda: len(found) == 4)
    assert found == [1000, 1000, 1, 1001]


def test_transactions_from_many_threads_get_their_own_replies(nb: OvsdbServer, rigs: Any) -> None:
    rig = rigs(nb.endpoint)
    rig.loop.until(lambda: rig.session.loaded)
    replies: list[tuple[str, str]] = []

    def run(thread: int) -> None:
        for number in range(50):
            comment = f"{thread} {number} " + "x" * 5000
            row = {"external_ids": ["map", [["k", comment]]]}
            insert = {"op": "insert", "table": "Logical_Switch", "uuid-name": "it", "row": row}
            where = [["_uuid", "==", ["named-uuid", "it"]]]
            select = {"op": "select", "table": "Logical_Switch", "where": where, "columns": ["external_ids"]}
            rig.session.transact(
                [insert, select],
                lambda results, _, comment=comment: replies.append(
                    (comment, results[1]["rows"][0]["external_ids"][1][0][1])
                ),
            )

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rig.loop.until(lambda: len(replies) == 200)
    assert all(sent == received for sent, received in replies)


def test_columns_added_later_are_loaded(nb: OvsdbServer, rigs: Any) -> None:
    nb.transact(DB, [{"op": "insert", "table": "Address_Set", "row": {"name": "a", "addresses": "10.0.0.1"}}])
    rig = rigs(nb.endpoint, needs={"Address_Set": ["name"]})
    rig.loop.until(lambda: rig.session.loaded)
    (record,) = rig.session.replica.table("Address_Set").values()
    assert "addresses" not in record.values
    rig.session.need("Address_Set", ["addresses"])
    assert not rig.session.loaded
    rig.loop.until(lambda: rig.session.loaded)
    (record,) = rig.session.replica.table("Address_Set").values()
    assert record.values["addresses"] == {"10.0.0.1"}


def test_columns_that_the_server_lacks_load_nothing_anew(nb: OvsdbServer, rigs: Any) -> None:
    rig = rigs(nb.endpoint, needs={"Address_Set": ["name"]})
    rig.loop.until(lambda: rig.session.loaded)
    assert not rig.session.need("Address_Set", ["name", "to_come"])
    assert rig.session.loaded
    assert rig.session.need("Address_Set", ["to_come", "addresses"])
    rig.loop.until(lambda: rig.session.loaded)
    assert rig.session.replica.columns["Address_Set"] == {"name", "addresses", "external_ids"}
    assert rig.session.reloads == 2


def test_silent_server_is_given_up(folder: Path, rigs: Any) -> None:
    """A server that answers the handshake and then nothing: the probe notices."""
    path = folder / "silent.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    accepted: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            accepted.append(sock)

    threading.Thread(target=serve, daemon=True).start()
    session = Session("nb", f"unix:{path}", post=lambda function: function(), probe_interval=0.1)
    session.start()
    try:
        eventually(lambda: len(accepted) >= 3, "it connects again and again")
        assert "no answer" in session.last_error
        heard = accepted[0].recv(65536)
        assert orjson.loads(heard[: heard.index(b"}") + 1])["method"] == "list_dbs"
        assert b'"echo"' in heard
    finally:
        session.stop()
        listener.close()
        for sock in accepted:
            sock.close()


def certificates(folder: Path) -> dict[str, Path]:
    """An authority, a server and a client of it, and another authority, as PEM files by name."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name in ("server", "client"):
        issued = authority.issue_cert("127.0.0.1", common_name=name)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    return {path.name: path for path in folder.iterdir()}


def test_tls(folder: Path, rigs: Any) -> None:
    files = certificates(folder)
    number = free_port()
    options = (
        f"--private-key={files['server.key']}",
        f"--certificate={files['server.pem']}",
        f"--ca-cert={files['ca.pem']}",
    )
    with OvsdbServer(folder / "nb", listen=(f"pssl:{number}:127.0.0.1",), options=options) as server:
        endpoint = f"ssl:127.0.0.1:{number}"
        tls = Tls(str(files["client.key"]), str(files["client.pem"]), str(files["ca.pem"]))
        rig = rigs(endpoint, tls=tls)
        rig.want("sw", Row("Logical_Switch", "switch", {"name": "n1"}))
        for count in range(500):
            rig.want(f"p{count}", port(f"p{count}" + "x" * 200))
        rig.quiet()
        assert len(server.rows("Logical_Switch_Port")) == 500
        wrong = Tls(str(files["client.key"]), str(files["client.pem"]), str(files["other-ca.pem"]))
        stranger = rigs(endpoint, tls=wrong)
        stranger.loop.until(lambda: stranger.session.last_error)
        assert "certificate" in stranger.session.last_error.lower()
        assert not stranger.sink.ready


@pytest.fixture
def cluster(folder: Path) -> Any:
    addresses = [f"tcp:127.0.0.1:{free_port()}" for _ in range(3)]
    servers = [OvsdbServer(folder / "n0", cluster=addresses[0]).start()]
    for number in (1, 2):
        servers.append(OvsdbServer(folder / f"n{number}", cluster=addresses[number], join=addresses[0]).start())
    yield servers
    for server in servers:
        server.stop()


def test_cluster_leader_is_followed(cluster: list[OvsdbServer], rigs: Any) -> None:
    rig = rigs(",".join(server.endpoint for server in cluster))
    rig.want("sw", Row("Logical_Switch", "switch", {"name": "n1"}))
    rig.want("before", port("before"))
    rig.quiet()
    leader = next(server for server in cluster if server.endpoint == rig.session.endpoint)
    assert "Role: leader" in leader.control_command("cluster/status", DB)
    # Without a reload: the new leader continues from the last transaction.
    reloads = rig.session.reloads
    follower = next(server for server in cluster if server is not leader)
    eventually(lambda: "Status: cluster member" in follower.control_command("cluster/status", DB), "joined")
    leader.kill()
    rig.want("during", port("during"))
    rig.quiet()
    assert rig.session.endpoint != leader.endpoint
    rest = next(server for server in cluster if server.endpoint == rig.session.endpoint)
    assert {row["name"] for row in rest.rows("Logical_Switch_Port")} == {"before", "during"}
    assert rig.session.resumed >= 1
    assert rig.session.reloads == reloads
    leader.start(wait=False)
    rig.want("after", port("after"))
    rig.quiet()
    assert not rig.reports
