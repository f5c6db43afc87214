"""`baton-participant SERVICE`: runs one participant of the sample shop until a signal ends it."""

from __future__ import annotations

import argparse
import sys

import uvloop
from pydantic import ValidationError

from participants import choreography, echo, inventory, notifications, orders, payment, shipping
from participants.faults import BadFault
from participants.log import configure_log
from participants.server import BadAddress, Participant, Service
from participants.settings import ParticipantSettings
from participants.tls import BadCertificate

SERVICES = {
    module.SERVICE.name: module.SERVICE for module in (inventory, payment, orders, shipping, echo, notifications)
} | choreography.SERVICES

# What sysexits.h calls a wrong configuration.
_BAD_CONFIGURATION = 78


def main() -> None:
    """Run the participant that the command line names. Exit status 78: the settings are wrong."""
    parser = argparse.ArgumentParser(
        prog="baton-participant",
        description="Runs one participant of the sample shop. It is configured by PARTICIPANT_* in the environment.",
    )
    parser.add_argument("service", choices=SERVICES)
    service = SERVICES[parser.parse_args().service]
    try:
        settings = ParticipantSettings()
        configure_log(settings.log_format, settings.log_level, participant=service.name)
        uvloop.run(_run(service, settings))
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(("PARTICIPANT", *map(str, problem["loc"]))).upper()
            print(f"{name}: {problem['msg']}", file=sys.stderr)
        sys.exit(_BAD_CONFIGURATION)
    except BadFault as error:
        sys.exit(_refused(f"PARTICIPANT_FAULTS: {error}"))
    except BadCertificate as error:
        sys.exit(_refused(f"PARTICIPANT_TLS_CERT_FILE, PARTICIPANT_TLS_KEY_FILE, PARTICIPANT_TLS_CA_FILE: {error}"))
    except BadAddress as error:
        sys.exit(_refused(f"PARTICIPANT_LISTEN: {error}"))


async def _run(service: Service, settings: ParticipantSettings) -> None:
    await Participant(service, settings).run_until_signal()


def _refused(message: str) -> int:
    print(message, file=sys.stderr)
    return _BAD_CONFIGURATION


if __name__ == "__main__":
    main()
