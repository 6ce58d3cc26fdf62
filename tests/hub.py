"""A stand-in for the hub's API: what huggingface_hub asks when it makes a repository and commits files to it."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_a_token_of_a_test"


@dataclass
class Hub:
    """What was asked of it, and what it has.

    Attributes:
        refuses: a path, at which it answers with a refusal.
    """

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    refuses: str = "\0"


@contextmanager
def hub() -> Iterator[Hub]:
    """The server, on a port of this machine, as long as this is open."""
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Nothing."""

        def answer(self, values: Any, status: int = 200) -> None:
            content = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def asked(self) -> Any:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            return body

        def allowed(self) -> bool:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer({"error": "Invalid credentials"}, 401)
                return False
            if state.refuses in self.path:
                self.answer({"error": "You are not allowed to do that"}, 403)
                return False
            return True

        def do_GET(self) -> None:
            if self.allowed():
                name = "/".join(self.path.split("?")[0].split("/")[3:5])
                if "whoami" in self.path:
                    self.answer({"name": "tester", "type": "user", "orgs": []})
                elif "/tree/" in self.path:
                    self.answer(
                        [
                            {"type": "file", "path": path, "size": len(content), "oid": "0"}
                            for path, content in state.repositories.get(name, {}).items()
                        ]
                    )
                else:
                    files = [{"rfilename": path} for path in state.repositories.get(name, {})]
                    self.answer({"id": name, "sha": "0" * 40, "siblings": files, "private": True, "tags": []})

        def do_POST(self) -> None:
            body = self.asked()
            if not self.allowed():
                return
            if self.path.endswith("/repos/create"):
                asked = json.loads(body)
                name = f"{asked.get('organization') or 'tester'}/{asked['name'].rpartition('/')[2]}"
                status = 409 if name in state.repositories else 200
                state.repositories.setdefault(name, {})
                state.private.setdefault(name, bool(asked.get("private") or asked.get("visibility") == "private"))
                self.answer({"url": f"{state.address}/{name}", "id": name, "name": name}, status)
            elif "/preupload/" in self.path:
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(body)["files"]
                ]
                self.answer({"files": files})
            elif "/commit/" in self.path:
                name = "/".join(self.path.split("/")[3:5])
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        state.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "header":
                        state.messages.append(line["value"]["summary"])
                self.answer({"commitUrl": f"{state.address}/{name}/commit/0", "commitOid": "0" * 40, "success": True})
            else:  # whether a card's front matter is as the hub wants it
                self.answer({"errors": [], "warnings": []})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
