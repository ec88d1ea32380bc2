"""The executable `ovn-k8s-cni-overlay`: hands a CNI request to the node's server and prints its answer.

It is installed as a file of its own and started for every pod, so it imports as little as it can and nothing
of ovnkit. What it says and how it ends follows the CNI specification 1.1.0.
"""

import os
import sys

SOCKET = "/var/run/ovn-kubernetes/cni/ovn-cni-server.sock"
TIMEOUT = 130
"""Seconds; the server answers within 120."""
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
TRY_AGAIN, IO_FAILURE, DECODE_FAILURE, INVALID_ENVIRONMENT, INTERNAL = 11, 5, 6, 4, 100


def say(text: str) -> None:
    """Write to standard output."""
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def fail(code: int, message: str, details: str = "", version: str = VERSIONS[-1]) -> int:
    """Print a CNI error object; the exit status that goes with it."""
    import json

    error = {"cniVersion": version, "code": code, "msg": message}
    if details:
        error["details"] = details
    say(json.dumps(error))
    return 1


def version_of(config: bytes) -> str:
    """The version that the runtime speaks, for answers made here."""
    import json

    try:
        found = json.loads(config)["cniVersion"]
    except (ValueError, KeyError, TypeError):
        return VERSIONS[-1]
    return found if found in VERSIONS else VERSIONS[-1]


def exchange(body: bytes) -> tuple[int, bytes]:
    """POST the request; status and body of the answer. Raises OSError."""
    import socket

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(SOCKET)
        connection.sendall(
            b"POST / HTTP/1.0\r\nHost: dummy\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    head, separator, answer = b"".join(chunks).partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not separator or len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("the server ended before it answered")
    return int(words[1]), answer


def ask_server(config: bytes) -> int:
    """Pass a request on and print the answer."""
    import binascii
    import json

    env = {name: value for name, value in os.environ.items() if name.startswith("CNI_")}
    body = json.dumps({"env": env, "config": binascii.b2a_base64(config, newline=False).decode()})
    try:
        status, answer = exchange(body.encode())
    except OSError as error:
        return fail(TRY_AGAIN, f"the CNI server of this node doesn't answer: {error}", SOCKET, version_of(config))
    try:
        found = json.loads(answer)
    except ValueError:
        return fail(INTERNAL, "the CNI server's answer is no JSON", answer[:500].decode(errors="replace"))
    if status != 200:
        say(json.dumps(found))
        return 1
    if found.get("Result") is not None:
        say(json.dumps(found["Result"]))
    return 0


def main() -> int:
    """Do what CNI_COMMAND says; the exit status."""
    command = os.environ.get("CNI_COMMAND", "")
    if not command:
        return fail(INVALID_ENVIRONMENT, "CNI_COMMAND is not set")
    try:
        config = b"" if os.isatty(0) else sys.stdin.buffer.read()
    except OSError as error:
        return fail(IO_FAILURE, f"standard input can't be read: {error}")
    if command == "VERSION":
        import json

        say(json.dumps({"cniVersion": version_of(config), "supportedVersions": list(VERSIONS)}))
        return 0
    return ask_server(config)


if __name__ == "__main__":
    sys.exit(main())
