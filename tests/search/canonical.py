"""The canonical form of a world: what cannot make a difference any more is taken out of it.

Every rule here keeps each world's future: whatever could happen before can happen after, and the invariants say the
same. The reasons stand at each rule, and in docs/proof.md; test_reductions.py compares small searches with and without.
Replicas need no rule: a world knows generations of leadership only, and any replica without a term may win the next.
"""

from __future__ import annotations

from tests.search import model_log
from tests.search.actions import Game
from tests.search.core import Plan
from tests.search.model_leader import crash as silence
from tests.search.model_participant import settled
from tests.search.mutations import Fence
from tests.search.world import ENDED, Call, Message, Stage, Statement, Term, World

_BEFORE_DRIVING = (Stage.WON, Stage.SCANNED, Stage.RAISED, Stage.IDLE)


def canonical(game: Game, world: World) -> World:
    """The world without what cannot matter."""
    fenced = game.rules.fence is Fence.FOR_SHARE
    over = model_log.ended(game.core, world)
    begun = over or (world.sagas > 0 and model_log.pending(game.core, world) is None)
    terms = world.terms
    for epoch, term in enumerate(terms, start=1):
        after = _term(game, world, epoch, term, fenced, over, begun)
        if after is not term:
            terms = (*terms[: epoch - 1], after, *terms[epoch:])
    network = world.network
    if network:
        kept = (_message(game, world, message, fenced) for message in network)
        network = tuple(sorted(message for message in kept if message is not None))
    if terms is world.terms and network == world.network:
        return world
    return world._replace(terms=terms, network=network)


def _term(game: Game, world: World, epoch: int, term: Term, fenced: bool, over: bool, begun: bool) -> Term:
    """A term that can do nothing more has ended; how far a fenced one lags behind the log makes no difference."""
    if term.stage in _BEFORE_DRIVING:
        # Nobody drives an ended saga again. One that is begun is found by a scan alone, and the idle have scanned.
        idle = begun and term.stage is Stage.IDLE and world.fence > epoch
        return ENDED if over or idle else term
    if not fenced or term.lag == 0:
        return term
    if world.fence > epoch and not term.begun:
        # Its statement will find no fence row: which of its rows are in the log already is never asked.
        return term._replace(lag=0)
    if term.stage is Stage.WRITING:
        return term._replace(lag=_lag(game, term.plan, term.lag))
    return term


def _message(game: Game, world: World, message: Message, fenced: bool) -> Message | None:
    """A message that can change nothing any more, now or later, is as good as lost."""
    if isinstance(message, Call):
        participant = world.participants[message.position - 1]
        return None if settled(participant, message.direction, game.rules) else message
    if not fenced:
        return message
    if world.fence > message.epoch and not message.begun:
        return None
    return Statement(0, message.epoch, message.plan, _lag(game, message.plan, message.lag), message.begun)


def overtaken_silenced(game: Game, world: World) -> World:
    """The canonical form, and terms that the fence has overtaken are reduced to what they can still do.

    Such a term writes nothing any more: its statement will find no fence row, and that ends it. What is left of it is
    a statement that has begun, or the call that it has sent or may still send; the answer would only lead to a write.
    Sound with FOR SHARE alone, where a begun statement keeps the fence from being raised at all.
    """
    if game.rules.fence is not Fence.FOR_SHARE:
        return canonical(game, world)
    for epoch, term in enumerate(world.terms, start=1):
        if epoch < world.fence and term.stage is not Stage.ENDED:
            world = silence(game.core, world, epoch)
    return canonical(game, world)


def _lag(game: Game, plan: int, lag: int) -> int:
    """A statement whose rows are all in the log, with others behind them, writes nothing, however many these are."""
    return min(lag, len(game.core.decided(Plan(plan)).rows) + 1)
