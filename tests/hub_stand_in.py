"""A stand-in of the Hub's HTTP interface on this machine: what its own client calls to create, fill and list a
repository, with every call recorded. Files in Git LFS are those that the Hub keeps there: by suffix or size."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

LFS = (".parquet", ".safetensors", ".gguf")
REPOSITORY = re.compile(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)/(preupload|commit|tree)/main")


class Hub(ThreadingHTTPServer):
    """`repositories` {(type, name): {path: bytes}}, `made` bodies of create_repo, `calls` (method, path) in order."""

    def __init__(self, owner="me"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.owner, self.calls, self.made, self.objects, self.repositories = owner, [], [], {}, {}
        self.lose = ""  # a path that the tree does not list, though it was committed

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def take(self):
        self.path = self.path.partition("?")[0]
        self.server.calls.append((self.command, self.path))
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_GET(self):
        self.take()
        if self.path == "/api/whoami-v2":
            return self.answer({"name": self.server.owner, "type": "user", "orgs": []})
        if not REPOSITORY.fullmatch(self.path):
            return self.answer({"error": "Repository not found"}, 404)
        files = self.server.repositories[self.repository()]
        tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in files.items()]
        self.answer([item for item in tree if item["path"] != self.server.lose])

    def do_PUT(self):
        data = self.take()
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.objects[oid] = data
        self.answer({})

    def do_POST(self):
        data = self.take()
        if self.path == "/api/repos/create":
            return self.create(json.loads(data))
        if self.path == "/api/validate-yaml":
            return self.validate(json.loads(data))
        if self.path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(data))
        kind = REPOSITORY.fullmatch(self.path)[3]
        return self.preupload(json.loads(data)) if kind == "preupload" else self.commit(data)

    def repository(self):
        kind, name, _ = REPOSITORY.fullmatch(self.path).groups()
        return kind.removesuffix("s"), name

    def create(self, body):
        self.server.made.append(body)
        if body["organization"] != self.server.owner:
            return self.answer({"error": "You don't have the rights to create a model under this namespace"}, 403)
        name = (body.get("type") or "model", f"{body['organization']}/{body['name']}")
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, {})
        return self.answer({"url": self.url(*name)}, status)

    def url(self, kind, name):
        return f"{self.server.address}/{'datasets/' if kind == 'dataset' else ''}{name}"

    def validate(self, body):
        head = yaml.safe_load(body["content"].split("---\n")[1])
        errors = [{"message": f'"{name}" is required'} for name in ("license",) if not head.get(name)]
        self.answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def batch(self, body):
        found = []
        for item in body["objects"]:
            known = item["oid"] in self.server.objects
            action = {"upload": {"href": f"{self.server.address}/lfs/{item['oid']}"}}
            found.append(item | ({} if known else {"actions": action}))
        self.answer({"transfer": "basic", "objects": found})

    def preupload(self, body):
        modes = {item["path"]: "lfs" if item["path"].endswith(LFS) else "regular" for item in body["files"]}
        self.answer({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})

    def commit(self, data):
        kind, name = self.repository()
        files = self.server.repositories[kind, name]
        for line in map(json.loads, data.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        self.answer({"commitUrl": f"{self.url(kind, name)}/commit/1", "commitOid": "1" * 40})


@contextmanager
def hub(monkeypatch):
    """The stand-in, running, where the Hub's client looks for the Hub; with a token."""
    from huggingface_hub import constants

    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # read at import: perhaps in a test that is offline
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose own server would have to stand in as well
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
