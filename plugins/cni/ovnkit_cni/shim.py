"""The executable `ovn-k8s-cni-overlay`: hands a CNI request to the node's server and prints its answer.

It is installed as a file of its own and started for every pod, so it imports as little as it can and nothing
of ovnkit: `socket` and `json` would double the time it takes (7 ms for the bare interpreter, 7 for these two),
so the way to the server does without, and the server answers with the very text to print.
What it says and how it ends follows the CNI specification 1.1.0.
"""

import os
import sys

SOCKET = "/var/run/ovn-kubernetes/cni/ovn-cni-server.sock"
TIMEOUT = 130
"""Seconds; the server answers within 120."""
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
PLAIN = "text/x-cni"
"""Media type of an answer that is what the plugin prints."""
TRY_AGAIN, IO_FAILURE, INVALID_ENVIRONMENT = 11, 5, 4


def say(text: str) -> None:
    """Write to standard output."""
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def read_input() -> bytes:
    """All of standard input."""
    data = b""
    while chunk := os.read(0, 65536):
        data += chunk
    return data


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
    import _socket

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT)
    connection.connect(SOCKET)
    head = f"POST / HTTP/1.0\r\nHost: dummy\r\nAccept: {PLAIN}\r\nContent-Length: {len(body)}\r\n\r\n"
    data = head.encode() + body
    while data:
        data = data[connection.send(data) :]
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    head_end = answer.find(b"\r\n\r\n")
    words = answer[:head_end].split(b" ", 2)
    if head_end < 0 or len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("the server ended before it answered")
    return int(words[1]), answer[head_end + 4 :]


def encode(text: str) -> str:
    """A JSON string."""
    from _json import encode_basestring_ascii

    return encode_basestring_ascii(text)


def ask_server(config: bytes) -> int:
    """Pass a request on and print the answer."""
    import binascii

    env = ",".join(f"{encode(name)}:{encode(os.environ[name])}" for name in os.environ if name.startswith("CNI_"))
    body = f'{{"env":{{{env}}},"config":"{binascii.b2a_base64(config, newline=False).decode()}"}}'
    try:
        status, answer = exchange(body.encode())
    except OSError as error:
        return fail(TRY_AGAIN, f"the CNI server of this node doesn't answer: {error}", SOCKET, version_of(config))
    if answer:
        say(answer.decode())
    return 0 if status == 200 else 1


def main() -> int:
    """Do what CNI_COMMAND says; the exit status."""
    command = os.environ.get("CNI_COMMAND", "")
    if not command:
        return fail(INVALID_ENVIRONMENT, "CNI_COMMAND is not set")
    try:
        config = b"" if os.isatty(0) else read_input()
    except OSError as error:
        return fail(IO_FAILURE, f"standard input can't be read: {error}")
    if command == "VERSION":
        import json

        say(json.dumps({"cniVersion": version_of(config), "supportedVersions": list(VERSIONS)}))
        return 0
    return ask_server(config)


if __name__ == "__main__":
    sys.exit(main())
