"""A stand-in for the Hugging Face hub on this machine: the few calls that pushing and downloading a model make."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"
SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server holds, and what it was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}  # by "owner/name@branch", then by path
        self.private: dict[str, bool] = {}
        self.commits: list[str] = []
        self.url = ""
        self.forbidden = False

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, dict | list | bytes]:
        """Status, and JSON or the bytes of a file."""
        if method == "POST" and token != TOKEN:
            return 401, {"error": "Invalid username or password."}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if self.forbidden:
                return 403, {"error": "You don't have the rights to create a model under the namespace"}
            if name in self.private:
                return 409, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
            self.private[name] = asked.get("private") or asked.get("visibility") == "private"
            self.files[f"{name}@main"] = {}
            return 200, {"url": f"{self.url}/{name}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/([^/]+)", path):
            return self._of_model(found[1], found[2], unquote(found[3]), body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            file = next((files[found[2]] for key, files in self.files.items() if key.startswith(found[1])), None)
            return (404, {"error": "Entry not found"}) if file is None else (200, file)
        return 404, {"error": f"the stand-in knows no {method} {path}"}

    def _of_model(self, name: str, call: str, branch: str, body: bytes) -> tuple[int, dict | list]:
        files = self.files.get(f"{name}@{'main' if branch == SHA else branch}")
        match call:
            case "branch":
                self.files.setdefault(f"{name}@{branch}", dict(self.files[f"{name}@main"]))
                return 200, {}
            case "preupload":
                asked = json.loads(body)["files"]
                entries = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked]
                return 200, {"files": entries}
            case "commit":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "header":
                        self.commits.append(line["value"]["summary"])
                    elif line["key"] == "deletedFile":
                        del files[line["value"]["path"]]
                    else:
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                return 200, {"commitUrl": f"{self.url}/{name}/commit/{SHA}", "commitOid": SHA}
            case "revision" if files is not None:
                return 200, {"id": name, "sha": SHA, "siblings": [{"rfilename": path} for path in files]}
            case "tree" if files is not None:
                return 200, [
                    {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for path, data in files.items()
                ]
        return 404, {"error": "Repository not found"}


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers at its `url` inside the block."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(self.chunks())
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            status, answer = hub.answer(self.command, urlsplit(self.path).path, token, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if isinstance(answer, bytes):
                self.send_header("ETag", f'"{hashlib.sha1(answer).hexdigest()}"')
                self.send_header("X-Repo-Commit", SHA)
            else:
                self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_GET = do_POST = do_HEAD = respond  # noqa: N815 — the names that http.server calls

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
