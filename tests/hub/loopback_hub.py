"""A Hub on 127.0.0.1: the part of the real one's wire protocol that `huggingface_hub` speaks to push and to load models.

Repositories are commits, a commit is a mapping of paths to blobs, and blobs are named by their content. Everything lies in
memory. Large files arrive as the client's LFS protocol has them (batch, upload in one part or several, verify) and leave by
a redirect; small ones travel in the commit. What is refused is refused as the Hub does it: by status, `X-Error-Code` and
`X-Error-Message`.
"""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub import ModelCardData

PART = 100_000  # bytes; a larger file is uploaded in several parts
LARGE = 10_000_000  # bytes; any file above is an LFS file
LFS = (".safetensors", ".bin", ".png")


class Refused(Exception):
    """A request that is answered by an error."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class File:
    """A file in a commit."""

    content: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        """The id that git gives it, or to the pointer in its place."""
        content = self.content
        if self.is_lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n"
            content = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_oid


@dataclass
class Repository:
    """A model's repository: commits, and the names that point to them."""

    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, File], title: str) -> str:
        content = [len(self.commits), title, sorted((path, file.etag) for path, file in files.items())]
        oid = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        self.titles.append(title)
        return oid

    def resolve(self, revision: str) -> str:
        for known in (self.branches, self.tags):
            if revision in known:
                return known[revision]
        if revision in self.commits:
            return revision
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")


@dataclass
class LoopbackHub:
    """The Hub's state, and what tests look at and break.

    Args:
        users: token -> (owner, whether it may write).
    """

    users: dict[str, tuple[str, bool]]
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of each."""
    received: list[str] = field(default_factory=list)
    """SHA-256 of every large file that arrived, as often as it did."""
    refuse: Callable[[str, str], Refused | None] = lambda method, path: None
    """What a test refuses: given method and path."""
    dies_after: int | None = None
    """Large files after which the server dies: it closes every connection and takes none."""
    lock: Any = field(default_factory=threading.RLock)
    url: str = ""

    @property
    def elsewhere(self) -> str:
        """The same server by another name: to large files the Hub sends on to another host, which gets no token."""
        return self.url.replace("127.0.0.1", "localhost")

    def main_files(self, name: str) -> dict[str, bytes]:
        """Return what main holds: path -> content."""
        return self.files(name, "main")

    def files(self, name: str, revision: str) -> dict[str, bytes]:
        """Return what a revision holds: path -> content."""
        repository = self.repositories[name]
        return {path: file.content for path, file in repository.commits[repository.resolve(revision)].items()}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Write no lines: requests are kept."""

    def do_GET(self) -> None:
        self._answer("GET")

    do_HEAD = do_POST = do_PUT = do_DELETE = None  # set below

    def _answer(self, method: str) -> None:
        hub, split = self.hub, urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(split.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._read_chunks()
        with hub.lock:
            if hub.dies_after is not None and len(hub.received) >= hub.dies_after:
                threading.Thread(target=self.server.shutdown).start()
                self.server.socket.close()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            hub.requests.append(f"{method} {split.path}")
            try:
                if (refused := hub.refuse(method, split.path)) is not None:
                    raise refused
                for verb, pattern, answer in _ROUTES:
                    match = re.fullmatch(pattern, split.path)
                    if match and method in verb.split("|"):
                        return answer(self, **{name: unquote(part) for name, part in match.groupdict().items()})
                raise Refused(404, f"there is no {method} {split.path} in the tests' Hub")
            except Refused as refusal:
                headers = {"X-Error-Message": refusal.message}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
                self._json({"error": refusal.message}, status=refusal.status, headers=headers)

    def _read_chunks(self) -> bytes:
        content = b""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return content

    def _json(self, content: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._send(status, body, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Who asks

    def _user(self) -> tuple[str, bool] | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.hub.users:
            raise Refused(401, "Invalid credentials in Authorization header")
        return self.hub.users[token]

    def _readable(self, name: str) -> Repository:
        user, repository = self._user(), self.hub.repositories.get(name)
        if repository is None or (repository.private and (user is None or user[0] != name.split("/")[0])):
            raise Refused(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repository

    def _writable(self, name: str) -> Repository:
        repository, user = self._readable(name), self._user()
        if user is None or not user[1] or user[0] != name.split("/")[0]:
            raise Refused(403, "You don't have the required permissions to perform this action")
        return repository

    # The account and the repository

    def whoami(self) -> None:
        user = self._user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        role = "write" if user[1] else "read"
        self._json({"type": "user", "name": user[0], "auth": {"accessToken": {"role": role}}, "orgs": []})

    def create(self) -> None:
        asked, user = json.loads(self.body), self._user()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        owner = asked.get("organization") or user[0]
        name = f"{owner}/{asked['name']}"
        if not user[1] or owner != user[0]:
            raise Refused(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if name in self.hub.repositories:
            raise Refused(409, "You already created this model repo")
        repository = self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        attributes = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS)
        repository.commit("main", {".gitattributes": File(attributes.encode(), False)}, "initial commit")
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def settings(self, name: str) -> None:
        self._writable(name).private = json.loads(self.body)["visibility"] == "private"
        self._json({})

    def may_write(self, name: str) -> None:
        self._writable(name)
        self._json({})

    def info(self, name: str, revision: str = "main") -> None:
        repository = self._readable(name)
        oid = repository.resolve(revision)
        files = [{"rfilename": path} for path in sorted(repository.commits[oid])]
        self._json(
            {"id": name, "modelId": name, "private": repository.private, "sha": oid, "siblings": files, "tags": []}
        )

    def refs(self, name: str) -> None:
        repository = self._readable(name)
        kinds = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
        found = {
            kind: [{"name": each, "ref": f"refs/{place}/{each}", "targetCommit": oid} for each, oid in known.items()]
            for kind, (place, known) in kinds.items()
        }
        self._json({"converts": [], **found})

    def branch(self, name: str, branch: str) -> None:
        repository = self._writable(name)
        if branch in repository.branches:
            raise Refused(409, f"Reference already exists: refs/heads/{branch}")
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repository.branches[branch] = repository.resolve(start)
        self._json({})

    def tag(self, name: str, revision: str) -> None:
        repository, tag = self._writable(name), json.loads(self.body)["tag"]
        if tag in repository.tags:
            raise Refused(409, f"Tag reference exists already: refs/tags/{tag}")
        repository.tags[tag] = repository.resolve(revision)
        self._json({})

    # What a revision holds

    def _entry(self, path: str, file: File) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "size": len(file.content), "oid": file.git_oid}
        if file.is_lfs:
            entry["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 134}
        return entry

    def tree(self, name: str, revision: str) -> None:
        repository = self._readable(name)
        files = repository.commits[repository.resolve(revision)]
        recursive = self.query.get("recursive", "").lower() == "true"
        entries = [self._entry(path, file) for path, file in sorted(files.items()) if recursive or "/" not in path]
        folders = {path.rpartition("/")[0] for path in files} - {""}
        entries += [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in sorted(folders)]
        self._json(entries)

    def tree_below(self, name: str, revision: str, folder: str) -> None:
        repository = self._readable(name)
        files = repository.commits[repository.resolve(revision)]
        entries = [self._entry(path, file) for path, file in sorted(files.items()) if path.startswith(f"{folder}/")]
        if not entries:
            raise Refused(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        self._json(entries)

    def paths_info(self, name: str, revision: str) -> None:
        repository = self._readable(name)
        files = repository.commits[repository.resolve(revision)]
        paths = parse_qs(self.body.decode())["paths"]
        self._json([self._entry(path, files[path]) for path in paths if path in files])

    def resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._readable(name)
        oid = repository.resolve(revision)
        file = repository.commits[oid].get(path)
        if file is None:
            raise Refused(404, "Entry not found", "EntryNotFound")
        headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": oid}
        if not file.is_lfs:
            return self._send(200, file.content, headers)
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        self._send(302, b"", {**headers, "Location": f"{self.hub.elsewhere}/storage/{file.sha256}"})

    def storage(self, oid: str) -> None:
        if self.headers.get("Authorization"):
            raise Refused(400, "a token was sent to another host")
        content, asked = self.hub.blobs[oid], re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, {"ETag": f'"{oid}"'})
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        place = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], {"ETag": f'"{oid}"', "Content-Range": place})

    # What arrives

    def validate_yaml(self) -> None:
        parts = re.fullmatch(r"---\n(.*?\n)---\n.*", json.loads(self.body)["content"], re.DOTALL)
        errors = []
        try:
            metadata = yaml.safe_load(parts[1]) if parts else {}
            ModelCardData(**metadata)
            wrong = [key for key in ("license", "library_name") if not isinstance(metadata.get(key, ""), str)]
            errors += [{"message": f'"{key}" must be a string'} for key in wrong]
        except (yaml.YAMLError, ValueError, TypeError) as error:
            errors.append({"message": str(error)})
        self._json({"errors": errors, "warnings": []}, status=400 if errors else 200)

    def preupload(self, name: str, revision: str) -> None:
        repository = self._writable(name)
        present = repository.commits[repository.resolve(revision)]
        modes = []
        for file in json.loads(self.body)["files"]:
            path, is_lfs = file["path"], file["path"].endswith(LFS) or file["size"] > LARGE
            oid = present[path].etag if path in present else None
            mode = "lfs" if is_lfs else "regular"
            modes.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **({"oid": oid} if oid else {})})
        self._json({"files": modes})

    def batch(self, name: str) -> None:
        self._writable(name)
        asked = json.loads(self.body)
        assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256"
        objects = []
        for entry in asked["objects"]:
            oid, size = entry["oid"], entry["size"]
            answer = {"oid": oid, "size": size}
            if oid not in self.hub.blobs:
                upload: dict[str, Any] = {"href": f"{self.hub.url}/upload/{oid}"}
                if size > PART:
                    urls = {str(1 + n): f"{self.hub.url}/part/{oid}/{1 + n}" for n in range(-(-size // PART))}
                    upload["header"] = {"chunk_size": str(PART), **urls}
                verify = {"href": f"{self.hub.url}/{name}.git/info/lfs/verify", "header": {}}
                answer["actions"] = {"upload": upload, "verify": verify}
            objects.append(answer)
        self._json({"transfer": "multipart", "objects": objects})

    def _keep(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, "the content is not what its name says")
        self.hub.blobs[oid] = content
        self.hub.received.append(oid)

    def upload(self, oid: str) -> None:
        self._keep(oid, self.body)
        self._send(200, b"", {})

    def part(self, oid: str, number: str) -> None:
        self.hub.parts[oid, int(number)] = self.body
        self._send(200, b"", {"ETag": hashlib.md5(self.body).hexdigest()})

    def complete(self, oid: str) -> None:
        numbers = [part["partNumber"] for part in json.loads(self.body)["parts"]]
        self._keep(oid, b"".join(self.hub.parts.pop((oid, number)) for number in numbers))
        self._json({})

    def verify(self, name: str) -> None:
        self._writable(name)
        asked = json.loads(self.body)
        if len(self.hub.blobs.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(404, "the file has not arrived")
        self._json({})

    def commit(self, name: str, revision: str) -> None:
        repository = self._writable(name)
        if revision not in repository.branches:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files, title = dict(repository.commits[repository.branches[revision]]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            match item["key"]:
                case "header":
                    title = value["summary"]
                case "file":
                    files[value["path"]] = File(base64.b64decode(value["content"]), False)
                case "lfsFile":
                    if value["oid"] not in self.hub.blobs:
                        raise Refused(400, f"the LFS file {value['path']} has not arrived")
                    files[value["path"]] = File(self.hub.blobs[value["oid"]], True)
                case "deletedFile":
                    del files[value["path"]]
                case other:
                    raise Refused(400, f"unknown operation {other}")
        oid = repository.commit(revision, files, title)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})


def _answering(method: str) -> Callable[[_Handler], None]:
    return lambda handler: handler._answer(method)


for _method in ("HEAD", "POST", "PUT", "DELETE"):
    setattr(_Handler, f"do_{_method}", _answering(_method))

_NAME = r"(?P<name>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("PUT", rf"/api/models/{_NAME}/settings", _Handler.settings),
    ("GET", rf"/api/models/{_NAME}/auth-check/write", _Handler.may_write),
    ("GET", rf"/api/models/{_NAME}/refs", _Handler.refs),
    ("GET", rf"/api/models/{_NAME}/revision/{_REVISION}", _Handler.info),
    ("GET", rf"/api/models/{_NAME}/tree/{_REVISION}", _Handler.tree),
    ("GET", rf"/api/models/{_NAME}/tree/{_REVISION}/(?P<folder>.+)", _Handler.tree_below),
    ("GET", rf"/api/models/{_NAME}", _Handler.info),
    ("POST", rf"/api/models/{_NAME}/branch/(?P<branch>[^/]+)", _Handler.branch),
    ("POST", rf"/api/models/{_NAME}/tag/{_REVISION}", _Handler.tag),
    ("POST", rf"/api/models/{_NAME}/paths-info/{_REVISION}", _Handler.paths_info),
    ("POST", rf"/api/models/{_NAME}/preupload/{_REVISION}", _Handler.preupload),
    ("POST", rf"/api/models/{_NAME}/commit/{_REVISION}", _Handler.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("POST", rf"/{_NAME}\.git/info/lfs/verify", _Handler.verify),
    ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})", _Handler.upload),
    ("PUT", r"/part/(?P<oid>[0-9a-f]{64})/(?P<number>\d+)", _Handler.part),
    ("POST", r"/upload/(?P<oid>[0-9a-f]{64})", _Handler.complete),
    ("HEAD|GET", rf"/{_NAME}/resolve/{_REVISION}/(?P<path>.+)", _Handler.resolve),
    ("HEAD|GET", r"/storage/(?P<oid>[0-9a-f]{64})", _Handler.storage),
]


@contextlib.contextmanager
def serving(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """Serve a Hub on a free port of 127.0.0.1 while the context lasts; one that has died can be served again."""
    hub.dies_after = None
    handler = type("Handler", (_Handler,), {"hub": hub})
    port = int(hub.url.rpartition(":")[2]) if hub.url else 0
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
