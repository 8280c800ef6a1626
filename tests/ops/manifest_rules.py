"""What xchgd needs of its Kubernetes objects, and what the objects need of each other.

    faults = faults_of(variant, objects)

Each function below is one rule: it yields what is wrong. Schemas and types are checked elsewhere, so a rule may meet any object.
"""

import os
import re
import resource
import subprocess

from ops import PROGRAM, TOP
from xchgd import environment

BASE = ["ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service"]
KINDS = {"base": BASE, "hpa-connections": BASE, "proxy-v2": BASE, "podmonitor": BASE + ["PodMonitor"], "all": BASE + ["PodMonitor"]}
USER = 65532
MARGIN_SECONDS = 15  # between the end of XCHG_DRAIN_TIMEOUT and SIGKILL
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
PRIVATE = {"hostNetwork", "hostPID", "hostIPC", "hostPath", "hostPort", "privileged", "procMount", "preStop", "startupProbe", "add"}


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h)?", str(text)).groups()
    return int(number) * SECONDS[unit or "s"]


def at(tree, *path, default=None):
    """The value at a path, ${default} where a part of it is missing."""
    for name in path:
        try:
            tree = tree[name]
        except (KeyError, IndexError, TypeError):
            return default
    return tree


def names_in(tree):
    """Every name of a field, at any depth."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield name
            yield from names_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from names_in(value)


class Set:
    """The objects of one variant by kind, with what the rules ask for most."""

    def __init__(self, variant, objects):
        self.variant, self.kinds = variant, [one.get("kind") for one in objects]
        self.by_kind = {one.get("kind"): one for one in objects}
        self.deployment = self.by_kind.get("Deployment", {})
        self.template = at(self.deployment, "spec", "template", default={})
        self.pod = at(self.template, "spec", default={})
        self.labels = at(self.template, "metadata", "labels", default={})
        self.containers = at(self.pod, "containers", default=[])
        self.ports = {port.get("name"): port.get("containerPort") for container in self.containers for port in container.get("ports", [])}
        self.settings = self._settings()

    def _settings(self):
        config, found = self.by_kind.get("ConfigMap", {}), {}
        for container in self.containers:
            for source in container.get("envFrom", []):
                if at(source, "configMapRef", "name") == at(config, "metadata", "name"):
                    found.update(config.get("data", {}))
            found.update({one["name"]: one.get("value") for one in container.get("env", [])})
        return found

    def spec(self, kind, *path, default=None):
        return at(self.by_kind.get(kind, {}), "spec", *path, default=default)

    def selects(self, labels):
        return bool(labels) and labels.items() <= self.labels.items()


def every_object_once(objects):
    if sorted(map(str, objects.kinds)) != sorted(KINDS[objects.variant]):
        yield f"the objects are {sorted(map(str, objects.kinds))}, expected {sorted(KINDS[objects.variant])}"


def probes(objects):
    wanted = {"readinessProbe": "/readyz", "livenessProbe": "/livez"}
    for container in objects.containers:
        for name, path in wanted.items():
            probe = container.get(name, {})
            if at(probe, "httpGet", "path") != path or at(probe, "httpGet", "port") not in ("admin", objects.ports.get("admin")):
                yield f"{name} does not ask for {path} on the admin port"
            if set(probe) & {"tcpSocket", "exec", "grpc"}:
                yield f"{name} asks by {sorted(probe)}"
        ready = container.get("readinessProbe", {})
        notice = ready.get("periodSeconds", 10) * ready.get("failureThreshold", 3) + ready.get("timeoutSeconds", 1)
        if notice > seconds(objects.settings.get("XCHG_DRAIN_DELAY", 0)):
            yield f"the readiness probe notices a drain after {notice} s, XCHG_DRAIN_DELAY is shorter"


def times(objects):
    needed = seconds(objects.settings.get("XCHG_DRAIN_DELAY", 0)) + seconds(objects.settings.get("XCHG_DRAIN_TIMEOUT", 30)) + MARGIN_SECONDS
    grace = at(objects.pod, "terminationGracePeriodSeconds", default=30)
    if grace < needed:
        yield f"the grace period is {grace} s, needed are {needed} s"


def ports_agree(objects):
    for name, variable in (("data", "XCHG_LISTEN"), ("admin", "XCHG_ADMIN")):
        address = objects.settings.get(variable, "").split(";")[0]
        if address != f":{objects.ports.get(name)}":
            yield f"{variable} is {address!r}, the container's port {name} is {objects.ports.get(name)}"
    for port in objects.spec("Service", "ports", default=[]):
        target = port.get("targetPort", port.get("port"))
        if objects.ports.get(target, target) != objects.ports.get("data"):
            yield f"the Service leads to the port {target}"
    if "PodMonitor" in objects.by_kind:
        for endpoint in objects.spec("PodMonitor", "podMetricsEndpoints", default=[]):
            if (endpoint.get("port"), endpoint.get("path")) != ("admin", "/metrics"):
                yield f"the PodMonitor reads {endpoint.get('path')} on port {endpoint.get('port')}"
            jobs = [one.get("replacement") for one in endpoint.get("relabelings", []) if one.get("targetLabel") == "job"]
            if jobs != ["xchg"]:
                yield f"the PodMonitor sets the jobs {jobs}, the alert rules want xchg"


def selectors(objects):
    found = {"Deployment": objects.spec("Deployment", "selector", "matchLabels"), "Service": objects.spec("Service", "selector"),
             "PodDisruptionBudget": objects.spec("PodDisruptionBudget", "selector", "matchLabels"),
             "NetworkPolicy": objects.spec("NetworkPolicy", "podSelector", "matchLabels")}
    if "PodMonitor" in objects.by_kind:
        found["PodMonitor"] = objects.spec("PodMonitor", "selector", "matchLabels")
    for number, spread in enumerate(objects.pod.get("topologySpreadConstraints", [])):
        found[f"topologySpreadConstraints {number}"] = at(spread, "labelSelector", "matchLabels")
    for kind, labels in found.items():
        if not objects.selects(labels):
            yield f"the selector of {kind} is {labels}, the pods have {objects.labels}"


def autoscaling(objects):
    target = objects.spec("HorizontalPodAutoscaler", "scaleTargetRef", default={})
    deployment = objects.deployment
    if target != {"apiVersion": deployment.get("apiVersion"), "kind": deployment.get("kind"), "name": at(deployment, "metadata", "name")}:
        yield f"the autoscaler's target {target} is not the Deployment"
    least, most = (objects.spec("HorizontalPodAutoscaler", name, default=1) for name in ("minReplicas", "maxReplicas"))
    if not isinstance(least, int) or not isinstance(most, int) or not 2 <= least <= most:
        yield f"the autoscaler wants {least} to {most} replicas"
    if objects.spec("Deployment", "replicas") is not None:
        yield "the Deployment has a number of replicas, which every update would set again"
    metrics = objects.spec("HorizontalPodAutoscaler", "metrics", default=[])
    expected = "Pods" if objects.variant in ("hpa-connections", "all") else "Resource"
    if [metric.get("type") for metric in metrics] != [expected]:
        yield f"the autoscaler's metrics are {metrics}"
    for metric in metrics:
        kind, name = at(metric, "resource", "name"), at(metric, "pods", "metric", "name")
        if kind and not all(at(container, "resources", "requests", kind) for container in objects.containers):
            yield f"the autoscaler needs a request of {kind}"
        if name and f"| `{name}` | gauge |" not in documented_metrics():
            yield f"there is no gauge {name}"


def documented_metrics():
    with open(os.path.join(TOP, "docs", "metrics.md"), encoding="utf-8") as stream:
        return stream.read()


def availability(objects):
    strategy = objects.spec("Deployment", "strategy", default={})
    if strategy.get("type") != "RollingUpdate" or at(strategy, "rollingUpdate", "maxUnavailable") != 0 or not at(strategy, "rollingUpdate", "maxSurge"):
        yield f"an update takes pods away before their successors are ready: {strategy}"
    if objects.spec("PodDisruptionBudget", "maxUnavailable") != 1:
        yield "a disruption may take more than one pod away"


def rights(objects):
    pod = objects.pod.get("securityContext", {})
    if not objects.containers:
        yield "there is no container"
    if objects.pod.get("enableServiceLinks") is not False:
        yield "the variables of Services are set"
    if objects.pod.get("automountServiceAccountToken") is not False:
        yield "the token of the service account is mounted"
    if objects.pod.get("initContainers"):
        yield "there are other containers"
    for name in set(names_in(objects.template)) & PRIVATE:
        yield f"{name} is set"
    for container in objects.containers:
        context = {**pod, **container.get("securityContext", {})}
        wanted = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "seccompProfile": {"type": "RuntimeDefault"},
                  "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        for name, value in wanted.items():
            if context.get(name) != value:
                yield f"{name} is {context.get(name)}, expected {value}"


def container_itself(objects):
    with open(os.path.join(TOP, "core", "xchg.h"), encoding="utf-8") as stream:
        version = re.search(r'^#define XCHG_VERSION "(.*)"', stream.read(), re.M).group(1)
    for container in objects.containers:
        if not str(container.get("image")).endswith(f":{version}"):
            yield f"the image is {container.get('image')}, the version is {version}"
        for kind in ("requests", "limits"):
            if set(at(container, "resources", kind, default={})) != {"cpu", "memory"}:
                yield f"the resource {kind} are {at(container, 'resources', kind)}"


def network(objects):
    if sorted(objects.spec("NetworkPolicy", "policyTypes", default=[])) != ["Egress", "Ingress"]:
        yield "the policy does not cover both directions"
    if objects.spec("NetworkPolicy", "egress"):
        yield "connections to others are allowed"
    open_to_all = []
    for rule in objects.spec("NetworkPolicy", "ingress", default=[]):
        numbers = [port.get("port") for port in rule.get("ports", [])]
        sources = rule.get("from", [])
        if not sources:
            open_to_all += numbers or ["every port"]
        elif sources != [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}] or numbers != [objects.ports.get("admin")]:
            yield f"the ports {numbers} are open to {sources}"
    if open_to_all != [objects.ports.get("data")]:
        yield f"open to all are {open_to_all}"


def settings(objects):
    """xchgd itself says whether it takes them."""
    if not objects.settings:
        yield "the container gets no settings"
        return
    values, hard = dict(objects.settings), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and values.get("XCHG_MAX_CONNECTIONS", "").isdigit():
        values["XCHG_MAX_CONNECTIONS"] = min(int(values["XCHG_MAX_CONNECTIONS"]), hard - 200)  # a node allows more than this machine
    ran = subprocess.run([PROGRAM, "--check"], env=environment(**values), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
    if ran.returncode != 0:
        yield f"xchgd does not take the settings: {ran.stdout}"
    for variable in ("XCHG_ADMIN", "XCHG_DRAIN_DELAY", "XCHG_DRAIN_TIMEOUT"):
        if variable not in objects.settings:
            yield f"{variable} is not set"
    proxied = objects.variant in ("proxy-v2", "all")
    if proxied != objects.settings.get("XCHG_LISTEN", "").endswith(";proxy=v2"):
        yield f"XCHG_LISTEN is {objects.settings.get('XCHG_LISTEN')}"


RULES = [every_object_once, probes, times, ports_agree, selectors, autoscaling, availability, rights, container_itself, network, settings]


def faults_of(variant, objects):
    """What is wrong with the objects of this variant, each with the name of its rule."""
    checked = Set(variant, [one for one in objects if isinstance(one, dict)])
    found = []
    for rule in RULES:
        try:
            found += [f"{rule.__name__}: {fault}" for fault in rule(checked)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            found.append(f"{rule.__name__}: cannot be applied: {error!r}")  # the type of a field is wrong
    return found
