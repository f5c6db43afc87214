"""Every effect of a replica on the world outside of it, by name: at each one there are failpoints.

An effect is a statement on Postgres, a request to etcd, a call of a participant, or a word between two replicas. Its
failpoints are named after it: `<effect>.before` (nothing has been sent), `<effect>.after` (it was answered, and nobody
in this process has heard of that), and for what the leader must never leave open `<effect>.inside`: Postgres has
executed the statement, holds its locks, and waits for the message that commits it.

The names of statements are those of the file and of the query in it, such as `term.append` in term.sql.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Wire(StrEnum):
    """What an effect goes over: it decides how the other side's absence looks."""

    POSTGRES = "postgres"
    GRPC = "grpc"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect; `about` says what it does, `opens` that it has a point `inside` as well."""

    name: str
    wire: Wire
    about: str
    opens: bool = False

    @property
    def before(self) -> str:
        """The failpoint before anything is sent."""
        return f"{self.name}.before"

    @property
    def inside(self) -> str:
        """The failpoint between the execution of the statement and its commit."""
        return f"{self.name}.inside"

    @property
    def after(self) -> str:
        """The failpoint after the answer, of which nobody has heard yet."""
        return f"{self.name}.after"

    @property
    def points(self) -> tuple[str, ...]:
        """The names of its failpoints, in the order in which they are passed."""
        return (self.before, self.inside, self.after) if self.opens else (self.before, self.after)


CONNECT = Effect("log.connect", Wire.POSTGRES, "Opens a connection to Postgres.")
SET_UP = Effect("log.set_up", Wire.POSTGRES, "Sets a new connection up: its plans, and how long it waits for locks.")
NAME = Effect("log.name", Wire.POSTGRES, "Names the writer's connection after its term, for a successor to find it.")
CHECK = Effect("log.check", Wire.POSTGRES, "Asks whether an idle connection still works, and Postgres takes writes.")
REHEARSE = Effect("log.rehearse", Wire.POSTGRES, "A standby runs one of a term's statements ahead of time.")
LISTEN = Effect("log.listen", Wire.POSTGRES, "The leader subscribes to notifications of new work.")
NOTIFIED = Effect("log.notified", Wire.POSTGRES, "The leader reads a notification of new work.")
MIGRATE = Effect("log.migrate", Wire.POSTGRES, "Brings the schema up to date, in one transaction.", opens=True)

RANGE = Effect("etcd.range", Wire.GRPC, "Reads the keys of the cluster.")
TXN = Effect("etcd.txn", Wire.GRPC, "Claims, takes over, confirms or gives up a key.")
GRANT = Effect("etcd.grant", Wire.GRPC, "Asks for a lease.")
REVOKE = Effect("etcd.revoke", Wire.GRPC, "Gives a lease back.")
TIME_TO_LIVE = Effect("etcd.time_to_live", Wire.GRPC, "Asks how long a lease lasts.")
COMPACT = Effect("etcd.compact", Wire.GRPC, "Has etcd forget old revisions.")
AUTHENTICATE = Effect("etcd.authenticate", Wire.GRPC, "Fetches a token with user and password.")
KEEP_ALIVE = Effect("etcd.keep_alive", Wire.GRPC, "Renews the lease at all endpoints at once, in a thread of its own.")
WATCH = Effect("etcd.watch", Wire.GRPC, "Opens a watch on the keys of the cluster.")
WATCH_READ = Effect("etcd.watch_read", Wire.GRPC, "Reads the next changes of a watch.")

ACTION = Effect("call.action", Wire.GRPC, "Calls a step's action at its participant; its intent is durable.")
STATUS = Effect("call.status", Wire.GRPC, "Asks a participant whether an action of unknown outcome took effect.")
COMPENSATION = Effect("call.compensation", Wire.GRPC, "Calls a step's compensation at its participant.")
PURGE = Effect("call.purge", Wire.GRPC, "Lets a participant forget sagas that are kept no more.")
OPEN = Effect("exchange.open", Wire.GRPC, "Opens the stream that carries many calls to a participant.")
SEND = Effect("exchange.send", Wire.GRPC, "Sends a batch of calls on that stream.")
RECEIVE = Effect("exchange.receive", Wire.GRPC, "Reads a batch of replies from that stream.")
REFLECT = Effect("reflection.ask", Wire.GRPC, "Asks a participant for the descriptors of its services.")
RESOLVE = Effect("reflection.resolve", Wire.TCP, "Resolves the address of a participant.")

ACCEPT = Effect("beacon.accept", Wire.TCP, "Accepts the connection of a standby that watches this replica.")
BEAT = Effect("beacon.send", Wire.TCP, "Sends a hello or a beat to a standby.")
DISCARD = Effect("beacon.receive", Wire.TCP, "Reads, to throw it away, what a standby sends.")
OBSERVE = Effect("observer.connect", Wire.TCP, "A standby connects to the leader's beacon.")
HEAR = Effect("observer.read", Wire.TCP, "A standby reads a hello or a beat of the leader.")

_STATEMENTS = (
    Effect("term.raise_epoch", Wire.POSTGRES, "Raises the epoch: a term begins.", opens=True),
    Effect("term.raise_epoch_again", Wire.POSTGRES, "Raises the epoch after etcd went back in time.", opens=True),
    Effect("term.fence_epoch", Wire.POSTGRES, "Reads the epoch that a second raise starts from."),
    Effect("term.disconnect_older_terms", Wire.POSTGRES, "Disconnects writers of older epochs that hold the fence."),
    Effect("term.append", Wire.POSTGRES, "Writes a batch of transitions under the fence.", opens=True),
    Effect("term.begin_child", Wire.POSTGRES, "Begins the child saga of a step, under the fence.", opens=True),
    Effect("term.undo_child", Wire.POSTGRES, "Tells the child saga of a step to undo itself.", opens=True),
    Effect("term.acknowledged", Wire.POSTGRES, "Asks a Postgres that was away for the last row it confirmed."),
    Effect("term.prove", Wire.POSTGRES, "Proves that the epoch still holds the fence.", opens=True),
    Effect("term.park", Wire.POSTGRES, "Parks a saga whose rows cannot be understood.", opens=True),
    Effect("term.unfinished_compensating", Wire.POSTGRES, "Scans sagas that compensate, a page at a time."),
    Effect("term.unfinished_running", Wire.POSTGRES, "Scans sagas that run, a page at a time."),
    Effect("term.unfinished_unknown", Wire.POSTGRES, "Scans sagas in states that this release does not know."),
    Effect("term.pending", Wire.POSTGRES, "Looks for sagas that nobody has begun."),
    Effect("term.events", Wire.POSTGRES, "Reads the rows of scanned sagas."),
    Effect("term.cancellations", Wire.POSTGRES, "Looks for requests to cancel."),
    Effect("term.due", Wire.POSTGRES, "Looks for sagas whose time to wait is over."),
    Effect("term.next_due", Wire.POSTGRES, "Asks when the next saga is due."),
    Effect("term.sagas", Wire.POSTGRES, "Reads sagas that somebody has told something."),
    Effect("term.signals", Wire.POSTGRES, "Looks for answers and orders that nobody has heeded."),
    Effect("term.pauses", Wire.POSTGRES, "Reads what is paused, before anything is driven and from then on."),
    Effect("term.held", Wire.POSTGRES, "Looks for sagas that a pause has held."),
    Effect("term.heed_pauses", Wire.POSTGRES, "Says which pauses the leader goes by, under the fence.", opens=True),
    Effect("intake.start", Wire.POSTGRES, "Stores a batch of new sagas.", opens=True),
    Effect("intake.started", Wire.POSTGRES, "Finds what is stored under request ids that were used before."),
    Effect("strain.backlog", Wire.POSTGRES, "Counts the sagas that wait to be begun."),
    Effect("strain.commit", Wire.POSTGRES, "Writes nothing, to see how long a commit takes."),
    Effect("reader.saga", Wire.POSTGRES, "Reads a saga for a caller."),
    Effect("reader.sagas", Wire.POSTGRES, "Lists sagas for a caller."),
    Effect("reader.history", Wire.POSTGRES, "Reads the transitions of a saga for a caller."),
    Effect("reader.news", Wire.POSTGRES, "Reads what has happened to watched sagas."),
    Effect("reader.ended", Wire.POSTGRES, "Asks which sagas are terminal."),
    Effect("reader.parked_sagas", Wire.POSTGRES, "Lists the parked sagas."),
    Effect("reader.started_as", Wire.POSTGRES, "Looks for the saga of a start that is refused when it comes again."),
    Effect("reader.request_cancel", Wire.POSTGRES, "Leaves a request to cancel for the leader."),
    Effect("signals.post", Wire.POSTGRES, "Stores an answer or an order for a saga."),
    Effect("signals.fate", Wire.POSTGRES, "Asks whether a signal was heeded."),
    Effect("signals.saga", Wire.POSTGRES, "Reads a saga, to be folded for a caller."),
    Effect("signals.events", Wire.POSTGRES, "Reads the rows of a saga, to be folded for a caller."),
    Effect("signals.asked", Wire.POSTGRES, "Lists steps that wait for an approval, a page at a time."),
    Effect("signals.parked", Wire.POSTGRES, "Counts the parked sagas."),
    Effect("reader.fence", Wire.POSTGRES, "Reads who leads by the saga log."),
    Effect("reader.counts", Wire.POSTGRES, "Counts sagas by definition and state."),
    Effect("reader.examine", Wire.POSTGRES, "Looks at a window of sagas for a search."),
    Effect("reader.examine_labelled", Wire.POSTGRES, "Looks at a window of the sagas that bear a label."),
    Effect("reader.examine_named", Wire.POSTGRES, "Looks at a window of the sagas that bear a label of a name."),
    Effect("reader.some_sagas", Wire.POSTGRES, "Reads the sagas that a search has found."),
    Effect("reader.oldest", Wire.POSTGRES, "Looks for the oldest unfinished sagas for the metrics."),
    Effect("reader.ping", Wire.POSTGRES, "Asks whether Postgres answers, and has the schema."),
    Effect("reader.definition", Wire.POSTGRES, "Reads one version of a definition."),
    Effect("reader.definition_by_content", Wire.POSTGRES, "Looks whether a definition is stored already."),
    Effect("reader.definitions", Wire.POSTGRES, "Lists definitions."),
    Effect("audit.write", Wire.POSTGRES, "Stores what operators have done."),
    Effect("audit.entries", Wire.POSTGRES, "Reads what operators have done."),
    Effect("reader.insert_definition", Wire.POSTGRES, "Stores a version of a definition."),
    Effect("retirements.retirements", Wire.POSTGRES, "Reads which definitions are retired."),
    Effect("retirements.retire", Wire.POSTGRES, "Retires a definition, or a version of it."),
    Effect("retirements.started", Wire.POSTGRES, "Asks whether a request id has started a saga already."),
    Effect("retirements.reinstate", Wire.POSTGRES, "Takes the retirement of a definition back."),
    Effect("certificates.insert_certificate", Wire.POSTGRES, "Stores a certificate of a participant."),
    Effect("certificates.certificates", Wire.POSTGRES, "Lists certificates of participants."),
    Effect("upkeep.fold_tally", Wire.POSTGRES, "Folds what changed into the counts of sagas.", opens=True),
    Effect("upkeep.finished", Wire.POSTGRES, "Looks for finished sagas that have been kept for long enough."),
    Effect("upkeep.archived_sagas", Wire.POSTGRES, "Reads sagas for the archive."),
    Effect("upkeep.archived_history", Wire.POSTGRES, "Reads the transitions of sagas for the archive."),
    Effect("upkeep.remove", Wire.POSTGRES, "Removes finished sagas under the fence.", opens=True),
    Effect("upkeep.lately_ended", Wire.POSTGRES, "Reads how the latest sagas of a definition ended."),
    Effect("upkeep.hold_starts", Wire.POSTGRES, "Holds new starts of a definition.", opens=True),
    Effect("holds.start_holds", Wire.POSTGRES, "Reads which definitions' starts are held."),
    Effect("holds.release", Wire.POSTGRES, "Lets the starts of a definition through again."),
    Effect("pauses.pause", Wire.POSTGRES, "Stores the pause of a definition or of a participant."),
    Effect("pauses.resume", Wire.POSTGRES, "Stores the end of a pause."),
    Effect("pauses.one", Wire.POSTGRES, "Reads whether a leader goes by a pause."),
    Effect("pauses.in_force", Wire.POSTGRES, "Lists what is paused."),
    Effect("pauses.ended", Wire.POSTGRES, "Lists what was paused."),
    Effect("upkeep.raise_watermark", Wire.POSTGRES, "Raises the watermark of participants.", opens=True),
    Effect("upkeep.watermark", Wire.POSTGRES, "Reads the watermark of participants."),
    Effect("events.page", Wire.POSTGRES, "Reads a page of events for a stream or for the relay."),
    Effect("events.head", Wire.POSTGRES, "Asks whether there are new events."),
    Effect("events.horizon", Wire.POSTGRES, "Asks which events retention has removed."),
    Effect("events.consumer", Wire.POSTGRES, "Reads how far a consumer of events has come."),
    Effect("events.commit", Wire.POSTGRES, "Keeps how far a consumer of events has come."),
    Effect("events.advance", Wire.POSTGRES, "Keeps how far the relay of events has come."),
    Effect("events.unseen", Wire.POSTGRES, "Asks which sagas have events that the relay has not published."),
    Effect("events.reset", Wire.POSTGRES, "Sets a consumer of events to a place."),
    Effect("events.delete", Wire.POSTGRES, "Forgets a consumer of events."),
    Effect("events.consumers", Wire.POSTGRES, "Lists the consumers of events."),
)

_ALL = (
    *(CONNECT, SET_UP, NAME, CHECK, REHEARSE, LISTEN, NOTIFIED, MIGRATE),
    *_STATEMENTS,
    *(RANGE, TXN, GRANT, REVOKE, TIME_TO_LIVE, COMPACT, AUTHENTICATE, KEEP_ALIVE, WATCH, WATCH_READ),
    *(ACTION, STATUS, COMPENSATION, PURGE, OPEN, SEND, RECEIVE, REFLECT, RESOLVE),
    *(ACCEPT, BEAT, DISCARD, OBSERVE, HEAR),
)

# All effects by name, and of every failpoint the effect that it belongs to.
EFFECTS: Mapping[str, Effect] = MappingProxyType({effect.name: effect for effect in _ALL})
POINTS: Mapping[str, Effect] = MappingProxyType({point: effect for effect in _ALL for point in effect.points})
