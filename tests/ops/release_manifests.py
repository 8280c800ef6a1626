"""The manifests with the kubectl of Debian 12, which is the oldest that may read them. test_manifests uses the installed one.

It downloads Debian's package. So it belongs to `make check-release`.
"""

import os
import tempfile
import unittest

from manifest_rules import faults_of
from ops import run
from test_manifests import MANIFESTS, VARIANTS, build, examine


def without_digest(objects):
    """The objects by kind. The name of the ConfigMap depends on the version of kustomize."""
    config = next(one for one in objects if one["kind"] == "ConfigMap")
    name = config["metadata"]["name"]
    for one in objects:
        for container in one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            for source in container["envFrom"]:
                assert source["configMapRef"]["name"] == name
                source["configMapRef"]["name"] = "xchgd"
    config["metadata"] = {"name": "xchgd"}
    return {one["kind"]: one for one in objects}


class Oldest(unittest.TestCase):
    def test_the_kubectl_of_debian_makes_the_same_objects(self):
        with tempfile.TemporaryDirectory() as folder:
            run("apt-get", "-qq", "download", "kubernetes-client", cwd=folder, limit=200)
            (package,) = os.listdir(folder)
            run("dpkg-deb", "--extract", os.path.join(folder, package), folder)
            kubectl = os.path.join(folder, "usr", "bin", "kubectl")
            found = examine({f"{variant} {number}": build(MANIFESTS, variant, program)[0]
                             for variant in VARIANTS for number, program in enumerate(("kubectl", kubectl))})
        for variant in VARIANTS:
            with self.subTest(variant):
                installed, oldest = found[f"{variant} 0"], found[f"{variant} 1"]
                self.assertEqual(oldest["faults"], [])
                self.assertEqual(faults_of(variant, oldest["objects"]), [])
                self.assertEqual(without_digest(oldest["objects"]), without_digest(installed["objects"]))
