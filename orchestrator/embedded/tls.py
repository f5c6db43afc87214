"""A cluster on this machine whose every link but that to its own Postgres is TLS, with certificates made for it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.embedded.authority import Authority, Certificate
from orchestrator.embedded.etcd import EtcdTls
from orchestrator.security.dialer import Dialer
from orchestrator.security.identity import identity_from

REPLICA = "replica.baton.test"
PARTICIPANT = "participant.baton.test"
OPERATOR = "operator.baton.test"
ETCD = "etcd.baton.test"

_ACCESS = f"""
callers:
  - {{name: replicas, certificate: {REPLICA}, roles: [replica]}}
  - {{name: operator, certificate: {OPERATOR}, roles: [operator]}}
"""


class ClusterTls:
    """The files, below `folder`, and the variables that name them to each process."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self._certificates = {name: self.authority.issue(name) for name in (REPLICA, PARTICIPANT, OPERATOR, ETCD)}
        self.access_file = folder / "access.yaml"
        self.access_file.write_text(_ACCESS)
        operator = self._certificates[OPERATOR]
        self.operator = operator
        self.dialer = Dialer(identity_from(self.authority.ca_file, operator.cert_file, operator.key_file))

    def issue_again(self) -> None:
        """Give every server and every replica new certificates, in the same files."""
        for name in self._certificates:
            self._certificates[name] = self.authority.issue(name)

    @property
    def etcd(self) -> EtcdTls:
        """For the members of etcd: clients must show a certificate."""
        return EtcdTls(*self._files(ETCD), self.authority.ca_file)

    @property
    def replica_variables(self) -> dict[str, str]:
        """For a replica."""
        cert, key = map(str, self._files(REPLICA))
        ca = str(self.authority.ca_file)
        return {
            **{f"BATON_TLS_{part}_FILE": file for part, file in (("CERT", cert), ("KEY", key), ("CA", ca))},
            **{f"BATON_ETCD_{part}_FILE": file for part, file in (("CERT", cert), ("KEY", key), ("CA", ca))},
            "BATON_ACCESS_FILE": str(self.access_file),
        }

    @property
    def participant_variables(self) -> dict[str, str]:
        """For a participant."""
        cert, key = map(str, self._files(PARTICIPANT))
        return {
            "PARTICIPANT_TLS_CERT_FILE": cert,
            "PARTICIPANT_TLS_KEY_FILE": key,
            "PARTICIPANT_TLS_CA_FILE": str(self.authority.ca_file),
            "PARTICIPANT_TLS_CALLERS": f"{REPLICA}, {OPERATOR}",
        }

    def _files(self, name: str) -> tuple[Path, Path]:
        certificate: Certificate = self._certificates[name]
        return certificate.cert_file, certificate.key_file
