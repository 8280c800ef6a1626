"""What the tests of images share: an OCI archive as it is, and its files as the root of a running xchgd.

    image = Image("build/image/xchgd-amd64.tar")        # every blob has the digest that its name says
    image.unpack(folder)
    with Contained(folder, image.entrypoint) as server: # a read-only root, user 65532, process 1 of its namespace
        greet(server.connect())

Nothing is mounted and no namespace is made outside of those processes.
"""

import hashlib
import io
import json
import os
import tarfile

from ops import TOP, Operated, reserved_port, tool

IMAGES = os.environ.get("OPS_IMAGES", os.path.join(TOP, "build", "image"))
USER = 65532

# Run as process 1 of its namespace: makes $1 a read-only root and runs the rest of the arguments. /proc and the paths in $2, which are
# in memory, are there already, because a container engine makes them, too.
ROOT = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
for path in $2; do
  mount -t tmpfs -o mode=0777 tmpfs "$1$path"
done
mount -o remount,bind,ro,nosuid,nodev "$1"
shift 2
exec "$@"
"""


class Image:
    """One image of an OCI archive."""

    def __init__(self, path):
        self.path = path
        with tarfile.open(path) as archive:
            self.files = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        index = json.loads(self.files["index.json"])
        (self.descriptor,) = index["manifests"]
        self.digest = self.descriptor["digest"]
        self.manifest = json.loads(self._blob(self.descriptor))
        self.settings = json.loads(self._blob(self.manifest["config"]))
        self.config = self.settings["config"]
        self.entrypoint = self.config["Entrypoint"]

    def _blob(self, descriptor):
        algorithm, _, digest = descriptor["digest"].partition(":")
        data = self.files[f"blobs/{algorithm}/{digest}"]
        if hashlib.new(algorithm, data).hexdigest() != digest or len(data) != descriptor["size"]:
            raise AssertionError(f"{self.path}: the blob {digest} has another digest or size")
        return data

    def layers(self):
        """The layers as open tar archives, the lowest first."""
        for descriptor in self.manifest["layers"]:
            yield tarfile.open(fileobj=io.BytesIO(self._blob(descriptor)))

    def members(self):
        return [member for layer in self.layers() for member in layer]

    def unpack(self, folder):
        """All files, owned by this user if it is not root."""
        for layer in self.layers():
            with layer:
                layer.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
                layer.extractall(folder)
        for path in ("proc", "run/xchg", "plugins"):
            os.makedirs(os.path.join(folder, path), exist_ok=True)


def as_user(root, memory=()):
    """The command before the program: in namespaces of this user's own, where the ids of the process are 65532."""
    inner = [tool("unshare"), "--user", f"--map-user={USER}", f"--map-group={USER}", f"--root={root}", "--wd=/"]
    return [tool("unshare"), "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ROOT, "sh", root, " ".join(memory), *inner]


def as_root(root, memory=()):
    """The same by root: the ids are 65532 outside, too, and no file of the root belongs to them."""
    inner = [tool("setpriv"), "--no-new-privs", tool("chroot"), f"--userspec={USER}:{USER}", "--groups=", root]
    return [tool("unshare"), "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ROOT, "sh", root, " ".join(memory), *inner]


class Contained(Operated):
    """xchgd of an image in its root. ${wrap} is as_user or as_root. Signals go to process 1 of the namespace."""

    def __init__(self, root, entrypoint, wrap, memory=(), **variables):
        variables.setdefault("XCHG_ADMIN", f"127.0.0.1:{reserved_port()}")
        self.admin_address = variables["XCHG_ADMIN"]
        super().__init__(admin_port=int(self.admin_address.rsplit(":", 1)[1]), folder=root, wrap=wrap(root, memory), program=entrypoint[0],
                         **variables)

    @property
    def first(self):
        """The id, outside, of process 1 in the innermost namespace: the end of the chain of commands before the program."""
        process = self.process.pid
        while True:
            with open(f"/proc/{process}/task/{process}/children") as stream:
                children = stream.read().split()
            if not children:
                return process
            (process,) = map(int, children)

    def status(self):
        """The fields of /proc/<pid>/status."""
        with open(f"/proc/{self.first}/status") as stream:
            return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)

    def signal(self, signum):
        os.kill(self.first, signum)

    def terminate(self, signum):
        """Send a signal to process 1, and return the totals of the end."""
        self.signal(signum)
        return self.finish()
