"""Keeps a label on the replica's own pod in Kubernetes while the replica leads: a process of its own, beside it.

It asks the replica over loopback (`/leaderz`), and Kubernetes over HTTPS with the token of the pod's account, which is
mounted into this container alone. A replica that is killed or frozen does not answer and so loses the label: that is
why this is no part of the replica. The label is for people and for Services: who may write, Postgres decides.

The standard library does all of it, but for the log.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from orchestrator.errors import BatonError

# What Kubernetes mounts for whoever may speak to it, and how it names itself in every container.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"

_KUBERNETES_TIMEOUT_S = 5.0
_REPLICA_TIMEOUT_S = 2.0
# A label that somebody else took away comes back after so long.
_AGAIN_S = 60.0
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 15.0
_ANSWER_BYTES_MAX = 65_536

log = structlog.get_logger()


class NotInKubernetes(BatonError):
    """The environment, or the account's files, say that this process does not run in a pod with a token."""


class LabelNotSet(BatonError):
    """Kubernetes could not be reached, or refused the label: the message says which, and the status."""


@dataclass(frozen=True, slots=True)
class Kubernetes:
    """Where the API of Kubernetes is, and the files that open it. Token and authority are read again for every call."""

    host: str
    port: int
    account: Path = ACCOUNT

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], account: Path = ACCOUNT) -> Kubernetes:
        """As every container in Kubernetes finds it. Raises NotInKubernetes."""
        host, port = environ.get(_HOST, ""), environ.get(_PORT, "")
        if not host or not port.isdigit():
            raise NotInKubernetes(
                f"{_HOST} and {_PORT} are not set: this runs in a pod of Kubernetes, beside a replica"
            )
        if not (account / "token").is_file() or not (account / "ca.crt").is_file():
            raise NotInKubernetes(f"no token and ca.crt in {account}: mount the account's token into this container")
        return cls(host, int(port), account)

    def label(self, namespace: str, pod: str, key: str, value: str | None) -> None:
        """Set a label of a pod, or remove it if `value` is None. Raises LabelNotSet."""
        body = json.dumps({"metadata": {"labels": {key: value}}})
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        try:
            headers = {
                "Authorization": f"Bearer {(self.account / 'token').read_text().strip()}",
                "Content-Type": "application/merge-patch+json",
                "Accept": "application/json",
            }
            context = ssl.create_default_context(cafile=str(self.account / "ca.crt"))
            connection = http.client.HTTPSConnection(
                self.host.strip("[]"), self.port, timeout=_KUBERNETES_TIMEOUT_S, context=context
            )
            try:
                connection.request("PATCH", path, body, headers)
                answer = connection.getresponse()
                told = answer.read(_ANSWER_BYTES_MAX)
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise LabelNotSet(f"Kubernetes at {self.host}:{self.port} is out of reach: {error}") from None
        if answer.status != http.client.OK:
            raise LabelNotSet(f"Kubernetes answers {answer.status} to PATCH {path}: {_message(told)}")


def page_beside(environ: Mapping[str, str]) -> str:
    """Where the replica of this pod says whether it leads: over HTTPS, where its settings name a certificate."""
    scheme = "https" if environ.get("BATON_TLS_CERT_FILE") else "http"
    return f"{scheme}://127.0.0.1:7480/leaderz"


def leads(url: str) -> bool:
    """Whether the replica says at this URL that it leads; no, if it says anything else or nothing."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # The loopback interface of this very pod: nobody can stand between, so the certificate may be any.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_REPLICA_TIMEOUT_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_REPLICA_TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class PodLabel:
    """One label of one pod."""

    namespace: str
    pod: str
    key: str
    value: str


def keep(
    label: PodLabel, kubernetes: Kubernetes, leading: Callable[[], bool], stop: threading.Event, interval_s: float
) -> None:
    """Label the pod while `leading` says yes, until `stop`; then take the label off. Waits out every trouble."""
    shown: bool | None = None
    told_at_s = 0.0
    retry_s = _RETRY_FIRST_S
    complaint = ""
    while not stop.is_set():
        wanted = leading()
        pause_s = interval_s
        if wanted is not shown or time.monotonic() - told_at_s > _AGAIN_S:
            try:
                kubernetes.label(label.namespace, label.pod, label.key, label.value if wanted else None)
            except LabelNotSet as error:
                # One line for each trouble, not for each try.
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("label_not_set", pod=label.pod, reason=complaint, reaction="trying again")
                pause_s, retry_s = retry_s, min(2 * retry_s, _RETRY_MAX_S)
            else:
                if wanted is not shown:
                    log.info("label_set" if wanted else "label_removed", pod=label.pod, label=label.key)
                shown, told_at_s = wanted, time.monotonic()
                complaint, retry_s = "", _RETRY_FIRST_S
        stop.wait(pause_s)
    if shown is not False:
        try:
            kubernetes.label(label.namespace, label.pod, label.key, None)
        except LabelNotSet as error:
            log.warning("label_not_removed", pod=label.pod, reason=str(error), reaction="it goes with the pod")


def _message(answer: bytes) -> str:
    """What Kubernetes says in its Status, or the beginning of whatever else came."""
    try:
        told = json.loads(answer)
    except ValueError:
        told = None
    if isinstance(told, dict) and isinstance(told.get("message"), str):
        return str(told["message"])
    return answer[:200].decode(errors="replace")
