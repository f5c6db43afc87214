"""What a definition that demands certified participants lacks. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.certify.advice import certify_command
from orchestrator.certify.certificate import Certificate, Lack, missing_certificate
from orchestrator.certify.contract import contract_hash
from orchestrator.driving.codec import Descriptors
from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Definition


def uncertified(
    definition: Definition, descriptor_set: bytes, certificates: Iterable[Certificate]
) -> list[FieldViolation]:
    """The steps whose pair of action and compensation has no certificate for these descriptors, and what to run.

    A step without a compensation is no pair, and is not asked for one. The methods must be in the descriptors.
    """
    return [
        FieldViolation(f"steps[{index}].action", f"`certified: required`, and {lack}")
        for index, lack in lacks(definition, descriptor_set, certificates)
    ]


def lacks(
    definition: Definition, descriptor_set: bytes, certificates: Iterable[Certificate]
) -> Iterator[tuple[int, Lack]]:
    """The same by the numbers of the steps."""
    descriptors = Descriptors(descriptor_set)
    known = list(certificates)
    for index, step in enumerate(definition.steps):
        if step.action is None or step.compensation is None:
            continue
        pair = (step.action.path.lstrip("/"), step.compensation.method.path.lstrip("/"))
        digest, command = contract_hash(descriptors, *pair), certify_command(step, descriptors)
        lack = missing_certificate(known, step.service, *pair, digest, command)
        if lack is not None:
            yield index, lack
