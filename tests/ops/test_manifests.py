"""The manifests in docs/deploy/kubernetes: their objects are valid, they agree with each other and with xchgd, and mutants are found.

No cluster runs here. `kubectl kustomize` makes the objects, tests/ops/manifests.mjs compares them with the schemas and the types of the
API, and manifest_rules.py with what xchgd needs. A mutant is the folder with one wrong place. One of the checks must find each.
"""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from ops import FOLDER, PROGRAM, TOP, run, tool  # first: adds tests/live to the path

from doc_blocks import Terminal, may_make_network, read_blocks
from manifest_rules import KINDS, faults_of

MANIFESTS = os.path.join(TOP, "docs", "deploy", "kubernetes")
OVERLAYS = ("hpa-connections", "podmonitor", "proxy-v2")
VARIANTS = {"base": "base", **{name: f"overlays/{name}" for name in OVERLAYS}}

# (variant, file, text, text that takes its place, the check that must find it): kustomize, yaml, schema, type or a rule's name.
DEPLOYMENT, SERVICE, AUTOSCALER, NETWORK = "base/deployment.yaml", "base/service.yaml", "base/autoscaler.yaml", "base/network.yaml"
SETTINGS, DISRUPTION = "base/kustomization.yaml", "base/disruption.yaml"
LABEL = "app.kubernetes.io/name: xchgd"
MUTANTS = [
    # wrong fields: only the types show them
    ("base", DEPLOYMENT, "readinessProbe:", "readynessProbe:", "type"),
    ("base", DEPLOYMENT, "terminationGracePeriodSeconds:", "terminationGracePeriod:", "type"),
    ("base", DEPLOYMENT, "enableServiceLinks:", "enableServiceLink:", "type"),
    ("base", DEPLOYMENT, "readOnlyRootFilesystem:", "readonlyRootFilesystem:", "type"),
    ("base", DEPLOYMENT, "failureThreshold: 1", "failuresThreshold: 1", "type"),
    ("base", DEPLOYMENT, "envFrom:", "envForm:", "type"),
    ("base", SERVICE, "targetPort: data", "target: data", "type"),
    ("base", DISRUPTION, "maxUnavailable: 1", "maxUnavailible: 1", "type"),
    ("base", AUTOSCALER, "stabilizationWindowSeconds:", "stabilisationWindowSeconds:", "type"),
    ("base", NETWORK, "policyTypes:", "policyType:", "type"),
    ("podmonitor", "overlays/podmonitor/podmonitor.yaml", "interval: 15s", "intervall: 15s", "type"),
    ("proxy-v2", "overlays/proxy-v2/service.yaml", "externalTrafficPolicy:", "externalTraficPolicy:", "type"),
    ("hpa-connections", "overlays/hpa-connections/autoscaler.yaml", "averageValue:", "averageValues:", "type"),
    # wrong types, wrong values, missing fields
    ("base", DEPLOYMENT, "periodSeconds: 2", 'periodSeconds: "2"', "schema"),
    ("base", DEPLOYMENT, "containerPort: 7000", "containerPort: seven", "schema"),
    ("base", DEPLOYMENT, "terminationGracePeriodSeconds: 50", "terminationGracePeriodSeconds: 50s", "schema"),
    ("base", DEPLOYMENT, "runAsNonRoot: true", 'runAsNonRoot: "true"', "schema"),
    ("base", DEPLOYMENT, "              drop:\n                - ALL", "              drop: ALL", "schema"),
    ("base", DEPLOYMENT, "      maxSurge: 1", "      maxSurge: true", "schema"),
    ("base", DEPLOYMENT, "type: RollingUpdate", "type: Rolling", "type"),
    ("base", DEPLOYMENT, "type: RuntimeDefault", "type: Default", "type"),
    ("base", DEPLOYMENT, "        - name: xchgd\n          image:", "        - image:", "schema"),
    ("base", AUTOSCALER, "maxReplicas: 10", "maxReplicas: ten", "schema"),
    ("base", AUTOSCALER, "  maxReplicas: 10\n", "", "schema"),
    ("base", AUTOSCALER, "averageUtilization: 70", "averageUtilization: 70%", "schema"),
    ("base", SERVICE, "      port: 7000\n", "", "schema"),
    ("base", SERVICE, "kind: Service", "kind: Servis", "kustomize|schema"),
    ("base", AUTOSCALER, "autoscaling/v2", "autoscaling/v3", "schema"),
    ("podmonitor", "overlays/podmonitor/podmonitor.yaml", "interval: 15s", "interval: 15", "schema"),
    ("hpa-connections", "overlays/hpa-connections/autoscaler.yaml", '"5000"', "[5000]", "schema"),
    # files that are left out
    ("base", SETTINGS, "  - disruption.yaml\n", "", "every_object_once"),
    ("base", SETTINGS, "  - network.yaml\n", "", "every_object_once"),
    ("base", SETTINGS, "  - service.yaml\n", "  - servise.yaml\n", "kustomize"),
    ("podmonitor", "overlays/podmonitor/kustomization.yaml", "resources:\n  - podmonitor.yaml\n", "", "every_object_once"),
    ("hpa-connections", "overlays/hpa-connections/kustomization.yaml", "patchesStrategicMerge:\n  - autoscaler.yaml\n", "", "autoscaling"),
    ("proxy-v2", "overlays/proxy-v2/kustomization.yaml", "      - XCHG_LISTEN=:7000;proxy=v2\n", "", "settings"),
    # probes
    ("base", DEPLOYMENT, "          readinessProbe:\n            httpGet:\n              path: /readyz\n              port: admin\n"
                         "            periodSeconds: 2\n            timeoutSeconds: 1\n            failureThreshold: 1\n", "", "probes"),
    ("base", DEPLOYMENT, "          livenessProbe:\n            httpGet:\n              path: /livez\n              port: admin\n"
                         "            periodSeconds: 10\n            timeoutSeconds: 2\n            failureThreshold: 3\n", "", "probes"),
    ("base", DEPLOYMENT, "path: /livez", "path: /readyz", "probes"),
    ("base", DEPLOYMENT, "path: /readyz", "path: /livez", "probes"),
    ("base", DEPLOYMENT, "            httpGet:\n              path: /readyz\n              port: admin\n", "            tcpSocket:\n              port: data\n", "probes"),
    ("base", DEPLOYMENT, "path: /readyz\n              port: admin", "path: /readyz\n              port: data", "probes"),
    ("base", DEPLOYMENT, "path: /livez\n              port: admin", "path: /livez\n              port: 7000", "probes"),
    ("base", DEPLOYMENT, "periodSeconds: 2", "periodSeconds: 5", "probes"),
    ("base", DEPLOYMENT, "failureThreshold: 1", "failureThreshold: 3", "probes"),
    ("base", DEPLOYMENT, "          # xchgd makes", "          lifecycle:\n            preStop:\n              exec:\n                command: [sleep, '5']\n          #", "rights"),
    # times
    ("base", DEPLOYMENT, "terminationGracePeriodSeconds: 50", "terminationGracePeriodSeconds: 49", "times"),
    ("base", DEPLOYMENT, "      terminationGracePeriodSeconds: 50\n", "", "times"),
    ("base", SETTINGS, "XCHG_DRAIN_TIMEOUT=30s", "XCHG_DRAIN_TIMEOUT=31s", "times"),
    ("base", SETTINGS, "XCHG_DRAIN_DELAY=5s", "XCHG_DRAIN_DELAY=2s", "probes"),
    ("base", SETTINGS, "      - XCHG_DRAIN_DELAY=5s\n", "", "settings"),
    # ports
    ("base", DEPLOYMENT, "containerPort: 7001", "containerPort: 7002", "ports_agree"),
    ("base", DEPLOYMENT, "containerPort: 7000", "containerPort: 7070", "ports_agree"),
    ("base", SETTINGS, "XCHG_LISTEN=:7000", "XCHG_LISTEN=:7010", "ports_agree"),
    ("base", SETTINGS, "XCHG_ADMIN=:7001", "XCHG_ADMIN=127.0.0.1:7001", "ports_agree"),
    ("base", SETTINGS, "      - XCHG_ADMIN=:7001\n", "", "ports_agree"),
    ("base", SERVICE, "targetPort: data", "targetPort: date", "ports_agree"),
    ("base", SERVICE, "      targetPort: data\n", "      targetPort: data\n    - name: admin\n      port: 7001\n      targetPort: admin\n", "ports_agree"),
    ("base", SERVICE, "targetPort: data", "targetPort: 7001", "ports_agree"),
    ("base", NETWORK, "port: 7000", "port: 7070", "network"),
    ("podmonitor", "overlays/podmonitor/podmonitor.yaml", "port: admin", "port: metrics", "ports_agree"),
    ("podmonitor", "overlays/podmonitor/podmonitor.yaml", "path: /metrics", "path: /metric", "ports_agree"),
    ("podmonitor", "overlays/podmonitor/podmonitor.yaml", "replacement: xchg", "replacement: xchgd", "ports_agree"),
    # labels and names
    ("base", SERVICE, f"  selector:\n    {LABEL}", "  selector:\n    app.kubernetes.io/name: xchg", "selectors"),
    ("base", DEPLOYMENT, f"  selector:\n    matchLabels:\n      {LABEL}", "  selector:\n    matchLabels:\n      app: xchgd", "selectors"),
    ("base", DEPLOYMENT, f"          labelSelector:\n            matchLabels:\n              {LABEL}",
     "          labelSelector:\n            matchLabels:\n              app: xchgd", "selectors"),
    ("base", DISRUPTION, f"    matchLabels:\n      {LABEL}", "    matchLabels:\n      app: xchgd", "selectors"),
    ("base", NETWORK, f"    matchLabels:\n      {LABEL}", "    matchLabels:\n      app: xchgd", "selectors"),
    ("podmonitor", "overlays/podmonitor/podmonitor.yaml", f"    matchLabels:\n      {LABEL}", "    matchLabels:\n      app: xchgd", "selectors"),
    ("base", AUTOSCALER, "    kind: Deployment\n    name: xchgd", "    kind: Deployment\n    name: xchg", "autoscaling"),
    ("base", AUTOSCALER, "    kind: Deployment", "    kind: StatefulSet", "autoscaling"),
    ("base", DEPLOYMENT, "            - configMapRef:\n                name: xchgd", "            - configMapRef:\n                name: xchg", "settings"),
    ("hpa-connections", "overlays/hpa-connections/autoscaler.yaml", "xchg_connections_open", "xchg_connections", "autoscaling"),
    ("proxy-v2", "overlays/proxy-v2/kustomization.yaml", "behavior: merge", "behavior: replace", "settings"),
    # availability
    ("base", DEPLOYMENT, "maxUnavailable: 0", "maxUnavailable: 1", "availability"),
    ("base", DEPLOYMENT, "maxSurge: 1", "maxSurge: 0", "availability"),
    ("base", DEPLOYMENT, "type: RollingUpdate\n    rollingUpdate:\n      maxUnavailable: 0\n      maxSurge: 1", "type: Recreate", "availability"),
    ("base", DEPLOYMENT, "# The autoscaler decides on the number of replicas.\nspec:", "spec:\n  replicas: 1", "autoscaling"),
    ("base", DISRUPTION, "maxUnavailable: 1", "maxUnavailable: 2", "availability"),
    ("base", AUTOSCALER, "minReplicas: 2", "minReplicas: 1", "autoscaling"),
    ("base", AUTOSCALER, "maxReplicas: 10", "maxReplicas: 1", "autoscaling"),
    ("base", DEPLOYMENT, "              cpu: 500m\n", "", "autoscaling"),
    # rights
    ("base", DEPLOYMENT, "runAsNonRoot: true", "runAsNonRoot: false", "rights"),
    ("base", DEPLOYMENT, "runAsUser: 65532", "runAsUser: 0", "rights"),
    ("base", DEPLOYMENT, "        runAsGroup: 65532\n", "", "rights"),
    ("base", DEPLOYMENT, "type: RuntimeDefault", "type: Unconfined", "rights"),
    ("base", DEPLOYMENT, "        seccompProfile:\n          type: RuntimeDefault\n", "", "rights"),
    ("base", DEPLOYMENT, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "rights"),
    ("base", DEPLOYMENT, "            allowPrivilegeEscalation: false\n", "            privileged: true\n", "rights"),
    ("base", DEPLOYMENT, "            readOnlyRootFilesystem: true\n", "", "rights"),
    ("base", DEPLOYMENT, "                - ALL", "                - NET_RAW", "rights"),
    ("base", DEPLOYMENT, "              drop:\n", "              add:\n                - SYS_ADMIN\n              drop:\n", "rights"),
    ("base", DEPLOYMENT, "enableServiceLinks: false", "enableServiceLinks: true", "rights"),
    ("base", DEPLOYMENT, "      automountServiceAccountToken: false\n", "", "rights"),
    ("base", DEPLOYMENT, "      automountServiceAccountToken: false\n", "      automountServiceAccountToken: false\n      hostNetwork: true\n", "rights"),
    ("base", DEPLOYMENT, "              containerPort: 7000\n", "              containerPort: 7000\n              hostPort: 7000\n", "rights"),
    ("base", DEPLOYMENT, "      containers:\n", "      volumes:\n        - name: host\n          hostPath:\n            path: /\n      containers:\n", "rights"),
    ("base", DEPLOYMENT, "      containers:\n", "      initContainers:\n        - name: init\n          image: registry.example.com/init:1\n      containers:\n", "rights"),
    ("base", DEPLOYMENT, "xchgd:0.1.0", "xchgd:latest", "container_itself"),
    ("base", DEPLOYMENT, "              memory: 512Mi\n", "", "container_itself"),
    ("base", DEPLOYMENT, "memory: 64Mi", "memories: 64Mi", "container_itself"),
    ("base", DEPLOYMENT, 'cpu: "2"', 'cpus: "2"', "container_itself"),
    # the network
    ("base", NETWORK, "      from:\n        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: monitoring\n", "", "network"),
    ("base", NETWORK, "kubernetes.io/metadata.name: monitoring", "kubernetes.io/metadata.name: default", "network"),
    ("base", NETWORK, "        - namespaceSelector:\n            matchLabels:\n              kubernetes.io/metadata.name: monitoring\n", "        - namespaceSelector: {}\n", "network"),
    ("base", NETWORK, "        - port: 7000\n", "        - port: 7000\n        - port: 7001\n", "network"),
    ("base", NETWORK, "    - ports:\n        - port: 7000\n", "    - {}\n", "network"),
    ("base", NETWORK, "    - Egress\n", "", "network"),
    ("base", NETWORK, "    - Ingress\n    - Egress\n", "    - Egress\n", "network"),
    # settings that xchgd refuses
    ("base", SETTINGS, "XCHG_MAX_CONNECTIONS=10000", "XCHG_MAX_CONNECTION=20000", "settings"),
    ("base", SETTINGS, "XCHG_MAX_CONNECTIONS=10000", "XCHG_MAX_CONNECTIONS=many", "settings"),
    ("proxy-v2", "overlays/proxy-v2/kustomization.yaml", "      - XCHG_PROXY_TRUST=10.0.0.0/8\n", "", "settings"),
    ("proxy-v2", "overlays/proxy-v2/kustomization.yaml", "proxy=v2", "proxy=v3", "settings"),
]


FREE = {"labels", "annotations", "matchLabels", "data", "requests", "limits"}  # maps with any names


def places(tree, path=()):
    """The path of every field, lists included: (path, may its name be any)."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        free = isinstance(tree, list) or path[-1:] and path[-1] in FREE or path == ("spec", "selector") and isinstance(value, str)
        yield (*path, name), bool(free)
        yield from places(value, (*path, name))


def changed(tree, path, change):
    """A copy of the object in which change(parent, name) was called for the field at a path."""
    copy = json.loads(json.dumps(tree))
    parent = copy
    for name in path[:-1]:
        parent = parent[name]
    change(parent, path[-1])
    return copy


def misspell(parent, name):
    parent[name + "s"] = parent.pop(name)


def confuse(parent, name):
    parent[name] = [[]]  # no field has this type


def build(folder, variant, kubectl="kubectl"):
    """The objects as YAML, or None and what kubectl says."""
    ran = subprocess.run([tool(kubectl), "kustomize", os.path.join(folder, VARIANTS.get(variant, variant))], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    return (ran.stdout, "") if ran.returncode == 0 else (None, ran.stderr)


def examine(cases):
    """{case: objects and faults} for {case: YAML text}."""
    ran = subprocess.run([tool("node"), os.path.join(TOP, "tests", "ops", "manifests.mjs"), FOLDER], input=json.dumps(cases), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, timeout=200, check=False)
    if ran.returncode != 0:
        raise AssertionError(ran.stderr)
    return json.loads(ran.stdout)


def mutate(folder, mutant):
    """Write the folder with one place changed; return the YAML text or None, and what kubectl says."""
    variant, file, old, new, _ = mutant
    shutil.copytree(MANIFESTS, folder)
    path = os.path.join(folder, file)
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    if text.count(old) < 1:
        raise AssertionError(f"{file}: {old!r} is not there")
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text.replace(old, new, 1))
    return build(folder, variant)


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, folder)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            cls.built = list(pool.map(lambda pair: mutate(os.path.join(folder, str(pair[0])), pair[1]), enumerate(MUTANTS)))
        cases = {variant: build(MANIFESTS, variant)[0] for variant in VARIANTS}
        cases |= {str(index): text for index, (text, _) in enumerate(cls.built) if text is not None}
        cls.found = examine(cases)
        for index, (variant, *_) in enumerate(MUTANTS):
            if str(index) in cls.found:
                cls.found[str(index)]["faults"] += faults_of(variant, cls.found[str(index)]["objects"])

    def test_each_variant_is_without_fault(self):
        for variant in VARIANTS:
            with self.subTest(variant):
                self.assertEqual(self.found[variant]["faults"], [])
                self.assertEqual(faults_of(variant, self.found[variant]["objects"]), [])
                self.assertEqual(sorted(one["kind"] for one in self.found[variant]["objects"]), sorted(KINDS[variant]))

    def test_each_mutant_is_found(self):
        for index, (variant, file, old, new, check) in enumerate(MUTANTS):
            with self.subTest(f"{variant} {file}: {old.strip()!r} is {new.strip()!r}"):
                text, said = self.built[index]
                found = [f"kustomize: {said}"] if text is None else self.found[str(index)]["faults"]
                self.assertTrue(found, "no check has found it")
                self.assertTrue([fault for fault in found if re.match(rf"({check}):", fault)], f"expected: {check}, found: {found}")

    def test_every_misspelt_field_and_every_wrong_type_is_found(self):
        """In each object, one field after the other."""
        objects = {one["kind"]: one for variant in ("base", "podmonitor") for one in self.found[variant]["objects"]}
        cases = {}
        for kind, one in objects.items():
            for path, free in places(one):
                where = f"{kind} {'.'.join(map(str, path))}"
                cases[f"type of {where}"] = json.dumps(changed(one, path, confuse))
                if not free:
                    cases[f"name of {where}"] = json.dumps(changed(one, path, misspell))
        self.assertGreater(len(cases), 300)
        found = examine(cases)
        self.assertEqual([name for name in cases if not found[name]["faults"]], [])

    def test_overlays_build_upon_each_other(self):
        """An overlay may name another one as its base."""
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "kubernetes")
            shutil.copytree(MANIFESTS, copy)
            for above, below in zip(OVERLAYS[1:], OVERLAYS):
                path = os.path.join(copy, "overlays", above, "kustomization.yaml")
                with open(path, encoding="utf-8") as stream:
                    text = stream.read()
                with open(path, "w", encoding="utf-8") as stream:
                    stream.write(text.replace("../../base", f"../{below}"))
            found = examine({"all": build(copy, OVERLAYS[-1])[0]})["all"]
        self.assertEqual(found["faults"], [])
        self.assertEqual(faults_of("all", found["objects"]), [])


class Page(unittest.TestCase):
    """docs/deploy/kubernetes.md"""

    PATH = os.path.join(TOP, "docs", "deploy", "kubernetes.md")

    def test_the_number_of_mutants(self):
        for page, words in ((self.PATH, f" {len(MUTANTS)} copies with"), (os.path.join(TOP, "docs", "testing.md"), f"each of {len(MUTANTS)} mutants is found")):
            with open(page, encoding="utf-8") as stream:
                self.assertIn(words, stream.read())

    def test_every_value_of_the_table_is_in_the_manifests(self):
        with open(self.PATH, encoding="utf-8") as stream:
            rows = re.findall(r"^\| `([\w.]+)` \| `([^`]+)` \|", stream.read(), re.M)
        self.assertGreater(len(rows), 8)
        text = build(MANIFESTS, "base")[0].replace('"', "")
        for name, value in rows:
            with self.subTest(name):
                self.assertRegex(text, rf"(?m)^[- ]*{re.escape(name.rsplit('.', 1)[-1])}:\s+(- )?{re.escape(value)}$")

    @unittest.skipUnless(may_make_network(), "no network of its own can be made here")
    def test_blocks(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XCHG")}
        blocks = read_blocks(self.PATH)
        self.assertTrue(blocks)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(MANIFESTS, os.path.join(folder, "docs", "deploy", "kubernetes"))
            with open(self.PATH, encoding="utf-8") as stream:
                files = re.findall(r"^```yaml (\S+)\n(.*?)^```$", stream.read(), re.M | re.S)
            for name, text in files:
                os.makedirs(os.path.join(folder, os.path.dirname(name)), exist_ok=True)
                with open(os.path.join(folder, name), "w", encoding="utf-8") as stream:
                    stream.write(text)
            with Terminal(folder, environment, limit=60) as terminal:
                for command in sum(blocks, []):
                    terminal.type(command)


class Settings(unittest.TestCase):
    def test_xchgd_takes_the_settings_of_the_manifests(self):
        """The rule that asks xchgd is no rule if xchgd refuses nothing."""
        self.assertIn("xchgd", run(PROGRAM, "--version"))
        self.assertIn("XCHG_NONE", run(PROGRAM, "--check", expect=78, env={"XCHG_NONE": "1"}))
