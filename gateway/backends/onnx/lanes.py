"""How tokens are made, in the worker: lanes that step by turns, over one loaded model. Owned by one thread.

On a CPU onnxruntime-genai 0.18 batches statically: an `og.Engine` takes up to four requests at once, and whoever comes
later waits until all of them are done. But engines are cheap (0.2 ms) and share the model's weights, so each batch of
newcomers gets an engine of its own and starts at once. Four in one engine make twice the tokens of four engines.

That engine takes no seed, and a fault under a grammar breaks all requests in it. So what asks for a seed or a schema
gets an `og.Generator`, alone.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import onnxruntime_genai as og

from gateway.backends.engine import Sampling
from gateway.backends.onnx.guidance import guide
from gateway.backends.onnx.inbox import MAX_TOGETHER, needs_solitude
from gateway.backends.onnx.text import AnswerText, Vocabulary
from gateway.backends.onnx.wire import Begin, Failed, Fault, Options, Said

MAX_SEED: Final = 2**31
"""Seeds are 32-bit there, and negative ones mean none."""
STOP, LENGTH = "stop", "length"
BROKEN: Final = (RuntimeError, MemoryError)
"""What the runtime raises for all its own faults."""
FAILURE: Final = "The model failed to compute."
"""Told instead of the runtime's own text, which would hold parts of the answer."""

Tell = Callable[[Said | Failed], None]


class TurnError(Exception):
    """A task that can't be begun, and why."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


class Model:
    """A loaded model's folder."""

    def __init__(self, options: Options) -> None:
        og.disable_telemetry_events()
        folder = Path(options.folder)
        self.vocabulary = Vocabulary(folder)
        found = json.loads((folder / "genai_config.json").read_text())["model"]
        ends = found["eos_token_id"]
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])
        config = og.Config(str(folder))
        if options.threads is not None:
            session = {"intra_op_num_threads": options.threads}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self.runtime = og.Model(config)
        longest = og.GeneratorParams(self.runtime).get_search_options()["max_length"]
        self.window_tokens = min(int(longest), int(found["context_length"]))


class Turn:
    """One task under way: its prompt's tokens, and what came of it so far."""

    def __init__(self, model: Model, begin: Begin) -> None:
        """Raises TurnError where the prompt leaves no room for an answer."""
        self.task = begin.task
        self.sampling = begin.sampling
        self.prompt = model.vocabulary.encode(begin.prompt)
        if not self.prompt:
            raise TurnError(Fault.REQUEST, "The prompt holds no token.")
        room_tokens = model.window_tokens - len(self.prompt)
        if room_tokens < 1:
            has = f"{len(self.prompt)} tokens; the model's window has {model.window_tokens}."
            raise TurnError(Fault.WINDOW, f"The prompt has {has}")
        self.max_tokens = max(1, min(begin.sampling.max_tokens, room_tokens))
        # Under a schema the end comes where the JSON is whole: without it there would be no token left to choose.
        wanted = begin.sampling.min_tokens if begin.sampling.schema is None else None
        self.min_tokens = min(wanted or 0, self.max_tokens)
        self._is_streaming = begin.is_streaming
        self._text = AnswerText(model.vocabulary, begin.sampling.stop)
        self._token_count = 0
        self._told_tokens = 0

    def add(self, token: int) -> bool:
        """Add a token; tell whether a stop string is complete with it."""
        self._token_count += 1
        self._text.add(token)
        return self._text.is_stopped

    def report(self) -> Said | None:
        """Return what can be told by now; nothing where all comes at the end."""
        if not self._is_streaming or not (text := self._text.take()):
            return None
        return Said(self.task, text, self._count())

    def conclude(self, finish_reason: str) -> Said:
        """Return the rest."""
        return Said(self.task, self._text.finish(), self._count(), len(self.prompt), finish_reason)

    def _count(self) -> int:
        new, self._told_tokens = self._token_count - self._told_tokens, self._token_count
        return new


class Lane(Protocol):
    """Turns that step together."""

    @property
    def turns(self) -> Sequence[Turn]:
        """Those that are not done."""
        ...

    def step(self, tell: Tell) -> None:
        """Make a token for each turn, or fail them. The first step reads their prompts."""
        ...

    def drop(self, turn: Turn) -> None:
        """Let a turn go; the others are not held up by it."""
        ...


class BatchLane:
    """Up to `MAX_TOGETHER` turns in an engine of their own."""

    def __init__(self, model: Model) -> None:
        self._engine = og.Engine(model.runtime)
        self._events = self._engine.create_event_buffer(2 * MAX_TOGETHER)
        self._live: list[tuple[Turn, Any, int]] = []

    @property
    def turns(self) -> Sequence[Turn]:
        """Those that are not done."""
        return [turn for turn, _, _ in self._live]

    def begin(self, turn: Turn) -> None:
        """Take a turn in, before the first step. Raises TurnError for values that the engine does not take."""
        session = og.RequestOptions()
        # The cache of a batch is made at once, as long as its longest session may become.
        session.set_max_session_tokens(len(turn.prompt) + turn.max_tokens)
        try:
            request = self._engine.create_request(options=session)
            options = og.TurnOptions(request)
            _set_options(options, turn)
            self._live.append((turn, request, request.begin_turn(turn.prompt, options)))
        except RuntimeError as exc:
            raise TurnError(Fault.REQUEST, _first_line(exc)) from exc

    def step(self, tell: Tell) -> None:
        """Make a token for each turn."""
        try:
            events = self._engine.run(self._events)
        except BROKEN:
            for turn in self.turns:
                self._fail(turn, tell)
            return
        for event in events:
            found = next((entry for entry in self._live if entry[1] is event.request), None)
            if found is not None:
                self._take(found[0], event, tell)

    def drop(self, turn: Turn) -> None:
        """Let a turn go. Its row of the batch idles until the others are done."""
        for entry in [entry for entry in self._live if entry[0] is turn]:
            entry[1].cancel_turn(entry[2])
            self._live.remove(entry)

    def _take(self, turn: Turn, event: Any, tell: Tell) -> None:
        is_stopped = event.flags & og.EngineEventFlags.TOKEN and turn.add(event.token)
        if event.flags & og.EngineEventFlags.FAILED:
            self._fail(turn, tell)
        elif event.flags & og.EngineEventFlags.TURN_FINISHED:
            self._forget(turn)
            is_end = is_stopped or event.finish_reason == og.FinishReason.EOS
            tell(turn.conclude(STOP if is_end else LENGTH))
        elif is_stopped:
            self.drop(turn)
            tell(turn.conclude(STOP))
        elif (said := turn.report()) is not None:
            tell(said)

    def _fail(self, turn: Turn, tell: Tell) -> None:
        self._forget(turn)
        tell(Failed(turn.task, Fault.MODEL, FAILURE))

    def _forget(self, turn: Turn) -> None:
        self._live = [entry for entry in self._live if entry[0] is not turn]


class SoloLane:
    """One turn in a generator of its own, with a seed or a schema."""

    def __init__(self, model: Model, turn: Turn) -> None:
        """Raises TurnError for values that the generator does not take, above all a schema."""
        self._ends = model.ends
        self._turn: Turn | None = turn
        self._has_read = False
        settings = og.GeneratorParams(model.runtime)
        try:
            settings.set_search_options(**_search_options(turn))
            if turn.sampling.schema is not None:
                settings.set_guidance("json_schema", _guided(turn.sampling.schema))
            self._generator = og.Generator(model.runtime, settings)
        except (RuntimeError, TypeError) as exc:
            raise TurnError(Fault.REQUEST, _first_line(exc)) from exc

    @property
    def turns(self) -> Sequence[Turn]:
        """The one, until it is done."""
        return [self._turn] if self._turn is not None else []

    def step(self, tell: Tell) -> None:
        """Make a token."""
        turn = self._turn
        if turn is None:
            return
        try:
            said = self._advance(turn)
        except BROKEN:
            said = Failed(turn.task, Fault.MODEL, FAILURE)
        if isinstance(said, Failed) or (said is not None and said.finish_reason):
            self._turn = None
        if said is not None:
            tell(said)

    def drop(self, turn: Turn) -> None:
        """Let the turn go."""
        if turn is self._turn:
            self._turn = None

    def _advance(self, turn: Turn) -> Said | Failed | None:
        if not self._has_read:
            self._generator.append_tokens(turn.prompt)
            self._has_read = True
        self._generator.generate_next_token()
        token = int(self._generator.get_next_tokens()[0])
        if token in self._ends or turn.add(token):
            return turn.conclude(STOP)
        return turn.conclude(LENGTH) if self._generator.is_done() else turn.report()


def lanes_for(model: Model, turns: Sequence[Turn], tell: Tell) -> Iterator[Lane]:
    """Yield lanes that hold the turns, and tell of those that can't be begun."""
    together = [turn for turn in turns if not needs_solitude(turn.sampling)]
    for start in range(0, len(together), MAX_TOGETHER):
        lane = BatchLane(model)
        for turn in together[start : start + MAX_TOGETHER]:
            try:
                lane.begin(turn)
            except TurnError as exc:
                tell(Failed(turn.task, exc.fault, exc.message))
        yield lane
    for turn in turns:
        if needs_solitude(turn.sampling):
            try:
                yield SoloLane(model, turn)
            except TurnError as exc:
                tell(Failed(turn.task, exc.fault, exc.message))


def warm_up(model: Model) -> None:
    """Make one token: what is set up late (45 ms) is no first request's to wait for, nor what can't run to find out.

    Raises RuntimeError where the model does not compute.
    """
    told: list[Said | Failed] = []
    lane = BatchLane(model)
    lane.begin(Turn(model, Begin(0, "Hello", Sampling(max_tokens=1))))
    while lane.turns:
        lane.step(told.append)
    if any(isinstance(report, Failed) for report in told):
        raise RuntimeError("the model loads, but computes nothing")


def _set_options(options: Any, turn: Turn) -> None:
    """Give a turn's values to the engine; what is unset stays as the model's folder has it."""
    options.set_max_generated_tokens(turn.max_tokens)
    if turn.min_tokens:
        options.set_min_generated_tokens(turn.min_tokens)
    for name, value in _choice(turn.sampling).items():
        getattr(options, f"set_{name}")(value)


def _search_options(turn: Turn) -> Mapping[str, object]:
    """Return a turn's values as a generator takes them; lengths count the prompt there."""
    asked, read = turn.sampling, len(turn.prompt)
    options = _choice(asked) | {"max_length": read + turn.max_tokens}
    if turn.min_tokens:
        options["min_length"] = read + turn.min_tokens
    if asked.seed is not None:
        options["random_seed"] = asked.seed % MAX_SEED
    return options


def _choice(asked: Sampling) -> dict[str, object]:
    """Return how a token is chosen. No temperature, or none of the probability kept, means the likeliest."""
    _check(asked)
    chosen: dict[str, object] = {}
    if asked.repetition_penalty is not None:
        chosen["repetition_penalty"] = asked.repetition_penalty
    if asked.temperature == 0 or asked.top_p == 0:
        return chosen | {"do_sample": False}
    if asked.temperature is not None:
        chosen |= {"do_sample": True, "temperature": asked.temperature}
    if asked.top_p is not None:
        chosen["top_p"] = asked.top_p
    if asked.top_k is not None:
        chosen["top_k"] = max(0, asked.top_k)
    return chosen


def _check(asked: Sampling) -> None:
    """Raise TurnError for what an engine refuses and a generator takes without sense."""
    if asked.temperature is not None and not 0 <= asked.temperature < math.inf:
        raise TurnError(Fault.REQUEST, "temperature must be 0 or more.")
    if asked.top_p is not None and not 0 <= asked.top_p <= 1:
        raise TurnError(Fault.REQUEST, "top_p must be from 0 to 1.")
    if asked.repetition_penalty is not None and not 0 < asked.repetition_penalty < math.inf:
        raise TurnError(Fault.REQUEST, "repetition_penalty must be more than 0.")


def _guided(schema: bytes) -> str:
    try:
        return guide(schema)
    except ValueError as exc:
        raise TurnError(Fault.REQUEST, str(exc)) from exc


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or ["The model does not take this request."])[0]
