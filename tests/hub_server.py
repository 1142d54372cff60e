"""A stand-in for the Hugging Face hub on localhost: it speaks the part of its HTTP that huggingface_hub uses here.

Models, commits and branches are kept in memory. Large files go by Git LFS, as to the real one without Xet.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from experiment import make_experiment
from huggingface_hub import constants

from zfaudio.errors import UserError
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.generation.generate import generate

OWNER = "user"
TOKEN = "hf_owner"  # of OWNER
OTHER_TOKEN = "hf_other"  # of somebody else
LICENSES = ("apache-2.0", "mit", "other")
LARGE = (".safetensors", ".png", ".wav")
NEEDED = ("model.safetensors", "config.yaml", "manifest.json", "checkpoint.json")


class Refused(Exception):
    """An answer with an error status, as the hub gives it."""

    def __init__(self, status: int, code: str = "", message: str = "", url: str = "") -> None:
        self.status, self.code, self.message, self.url = status, code, message, url


@dataclass
class Repository:
    """A model: its commits, each with all files, and its branches."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, changes: dict[str, bytes], branch: str = "main") -> str:
        files = self.files(branch) | changes
        digest = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits[digest], self.branches[branch] = files, digest
        return digest

    def files(self, branch: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches[branch]] if branch in self.branches else {}

    def find(self, revision: str) -> str:
        commit = self.branches.get(revision, revision)
        if commit not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit


class Hub:
    """The server. Use it as a context: it stops at the end."""

    def __init__(self) -> None:
        self.models: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.downloaded: list[str] = []  # names of files, in order
        self.connections: list[socket.socket] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                hub.connections.append(self.connection)

            def log_message(self, *arguments: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                try:
                    headers, content = hub.answer(self, body)
                    status = 200
                except Refused as refused:
                    status, content = (
                        refused.status,
                        json.dumps({"error": refused.message, "url": refused.url}).encode(),
                    )
                    headers = {"X-Error-Code": refused.code} if refused.code else {}
                    headers["X-Error-Message"] = refused.message
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, so that connections are refused from now on, and those that are open are closed."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        for connection in self.connections:
            with contextlib.suppress(OSError):  # closed already
                connection.shutdown(socket.SHUT_RDWR)

    def add(self, name: str, files: dict[str, bytes], **options: bool) -> Repository:
        """A model with these files."""
        self.models[name] = Repository(**options)
        self.models[name].commit(files)
        return self.models[name]

    # Answers

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[dict[str, str], bytes]:
        path = unquote(urlsplit(request.path).path)
        user = self.user(request.headers.get("Authorization"))
        routes: list[tuple[str, str, Callable[..., object]]] = [
            ("POST", "/api/repos/create", self.create),
            ("POST", "/api/validate-yaml", self.validate),
            ("POST", "/api/models/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            ("POST", "/api/models/([^/]+/[^/]+)/commit/(.+)", self.commit),
            ("POST", "/api/models/([^/]+/[^/]+)/branch/(.+)", self.branch),
            ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            ("PUT", "/large/([0-9a-f]{64})", self.keep),
            ("GET", "/api/models/([^/]+/[^/]+)", self.info),
            ("GET", "/api/models/([^/]+/[^/]+)/revision/(.+)", self.info),
            ("GET", "/api/models/([^/]+/[^/]+)/tree/([0-9a-f]{40})", self.tree),
        ]
        for method, pattern, route in routes:
            match = re.fullmatch(pattern, path)
            if match and request.command == method:
                found = route(user, body, *match.groups())
                return {"Content-Type": "application/json"}, json.dumps(found).encode()
        match = re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if match is None or request.command not in ("GET", "HEAD"):
            raise Refused(404, "", f"the stand-in has no {request.command} {path}")
        if request.command == "GET":
            self.downloaded.append(match[3])
        return self.resolve(user, *match.groups())

    def user(self, authorization: str | None) -> str | None:
        if authorization is None:
            return None
        users = {f"Bearer {TOKEN}": OWNER, f"Bearer {OTHER_TOKEN}": "other"}
        if authorization not in users:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        return users[authorization]

    def readable(self, user: str | None, name: str) -> Repository:
        """A model, if this user may know of it. A stranger is not told whether one is private or not there."""
        model = self.models.get(name)
        if model is not None and (not model.private or user == name.split("/")[0]):
            return model
        if user is None:
            raise Refused(401, "RepoNotFound", "Invalid username or password.")
        raise Refused(404, "RepoNotFound", "Repository not found")

    def writable(self, user: str | None, name: str) -> Repository:
        if user is None:
            raise Refused(401, "", "Invalid username or password.")
        if user != name.split("/")[0]:
            raise Refused(403, "", f"You don't have the rights to write to {name}")
        return self.readable(user, name)

    def create(self, user: str | None, body: bytes) -> object:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.models and user == asked["organization"]:
            raise Refused(409, "", "You already created this model repo", f"{self.endpoint}/{name}")
        if user is None:
            raise Refused(401, "", "Invalid username or password.")
        if user != asked["organization"]:
            raise Refused(403, "", f'You don\'t have the rights to create a model under the namespace "{name}"')
        self.models[name] = Repository(private=asked.get("visibility") == "private")
        self.models[name].commit({".gitattributes": b""})
        return {"url": f"{self.endpoint}/{name}", "name": name}

    def validate(self, user: str | None, body: bytes) -> object:
        head = json.loads(body)["content"].split("---\n")[1]
        if yaml.safe_load(head).get("license") not in LICENSES:
            raise Refused(400, "", '"license" must be one of [...]')
        return {"errors": [], "warnings": []}

    def preupload(self, user: str | None, body: bytes, name: str, branch: str) -> object:
        self.writable(user, name)
        files = [each["path"] for each in json.loads(body)["files"]]
        return {"files": [{"path": path, "uploadMode": mode(path), "shouldIgnore": False} for path in files]}

    def batch(self, user: str | None, body: bytes, name: str) -> object:
        self.writable(user, name)
        objects = [
            each | {"actions": {"upload": {"href": f"{self.endpoint}/large/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def keep(self, user: str | None, body: bytes, digest: str) -> object:
        assert hashlib.sha256(body).hexdigest() == digest
        self.large[digest] = body
        return {}

    def commit(self, user: str | None, body: bytes, name: str, branch: str) -> object:
        model, changes = self.writable(user, name), {}
        model.find(branch)
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                changes[value["path"]] = self.large[value["oid"]]
        digest = model.commit(changes, branch)
        return {"success": True, "commitOid": digest, "commitUrl": f"{self.endpoint}/{name}/commit/{digest}"}

    def branch(self, user: str | None, body: bytes, name: str, branch: str) -> object:
        model = self.writable(user, name)
        if branch in model.branches:
            raise Refused(409, "", "Reference already exists")
        model.branches[branch] = model.branches["main"]
        return {}

    def info(self, user: str | None, body: bytes, name: str, revision: str = "main") -> object:
        model = self.readable(user, name)
        commit = model.find(revision)
        files = [{"rfilename": path} for path in model.commits[commit]]
        return {"id": name, "sha": commit, "private": model.private, "siblings": files}

    def tree(self, user: str | None, body: bytes, name: str, commit: str) -> object:
        files = self.readable(user, name).commits[commit]
        return [entry(path, content) for path, content in files.items()]

    def resolve(self, user: str | None, name: str, revision: str, path: str) -> tuple[dict[str, str], bytes]:
        model = self.readable(user, name)
        if model.gated and user != name.split("/")[0]:
            raise Refused(401 if user is None else 403, "GatedRepo", f"Access to model {name} is restricted")
        commit = model.find(revision)
        if path not in model.commits[commit]:
            raise Refused(404, "EntryNotFound", "Entry not found")
        content = model.commits[commit][path]
        return {"X-Repo-Commit": commit, "ETag": f'"{etag(path, content)}"'}, content


def mode(path: str) -> str:
    return "lfs" if path.endswith(LARGE) else "regular"


def etag(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if mode(path) == "lfs" else blob_id(content)


def blob_id(content: bytes) -> str:
    """The id that Git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(path: str, content: bytes) -> dict[str, object]:
    """A file in a listing."""
    found: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
    if mode(path) == "lfs":
        found["lfs"] = {"oid": etag(path, content), "size": len(content), "pointerSize": 134}
    return found


# For tests


def talk_to(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub in this process talk to the stand-in, with its cache in `folder` and the token of OWNER."""
    settings = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(folder / "cache"),
        "HF_TOKEN_PATH": str(folder / "token"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def made_experiment(folder: Path) -> Path:
    """An experiment with a result and samples."""
    exp = make_experiment(folder)
    evaluate(exp, json=exp / "results/test.json", device="cpu", draws=1)
    generate(exp, out=exp / "samples", num=3, seconds=0.2, device="cpu")
    return exp


def checkpoint_files(exp: Path) -> dict[str, bytes]:
    """What a push of an experiment would upload for loading."""
    return {name: (find_checkpoint(exp) / name).read_bytes() for name in NEEDED}


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.isprintable()
    return text
