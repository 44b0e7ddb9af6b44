"""What a caller asks for and does not get in full: lowered to the ceiling, with a note, never refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollama_mcp.ollama.api_models import KeepAlive
from ollama_mcp.ollama.options import Options
from ollama_mcp.ollama.parameters import keep_alive_seconds
from ollama_mcp.services.specs import GenerationRequest
from ollama_mcp.settings import ModelDefaults, Settings
from ollama_mcp.settings.limits import Limits, setting_of


@dataclass(frozen=True)
class ClampLimits:
    """The most that a caller gets of one model.

    Attributes:
        window: Tokens of the window.
        window_is_own: Whether that is what the model was made for, rather than the operator's word.
        keep_alive: How long it may stay loaded.
    """

    window: int
    window_is_own: bool
    keep_alive: KeepAlive


def clamp_limits(settings: Settings, model: str, model_max: int) -> ClampLimits:
    """Those of a model; what the operator made its default is allowed to everybody.

    Args:
        settings: The operator's.
        model: Its name.
        model_max: The most tokens it was made for; 0 where unknown.
    """
    defaults = settings.defaults_for(model)
    allowed = max(settings.max_context, defaults.options.get("num_ctx", 0))
    window = min(model_max or allowed, allowed)
    return ClampLimits(window, window == model_max, _longest(settings.limits, defaults))


def _longest(limits: Limits, defaults: ModelDefaults) -> KeepAlive:
    own = defaults.keep_alive
    return limits.keep_alive if own is None else max(limits.keep_alive, own, key=keep_alive_seconds)


def lowered(request: GenerationRequest, most: ClampLimits) -> tuple[GenerationRequest, list[str]]:
    """The request within its ceilings, and a note for each value that was above.

    A negative num_predict is no number of tokens: it says that the model ends by itself.
    """
    notes: list[str] = []
    options = _options(request.options, most, notes) if request.options else None
    keep_alive = _keep_alive(request.keep_alive, most, notes)
    if not notes:
        return request, notes
    return request.model_copy(update={"options": options, "keep_alive": keep_alive}), notes


def _options(options: Options, most: ClampLimits, notes: list[str]) -> Options:
    update: dict[str, Any] = {}
    whose = "the model's maximum" if most.window_is_own else f"the most that {setting_of('context')} allows"
    if options.num_ctx is not None and options.num_ctx > most.window:
        update["num_ctx"] = most.window
        notes.append(f"num_ctx lowered from {options.num_ctx} to {most.window}, {whose}")
    window = _window(options.num_ctx, update, most)
    if options.num_predict is not None and options.num_predict > window:
        update["num_predict"] = window
        notes.append(f"num_predict lowered from {options.num_predict} to {window}, the window")
    return options.model_copy(update=update)


def _window(asked: int | None, update: Mapping[str, int], most: ClampLimits) -> int:
    """The window of this call, or where nobody chose one the largest that it can grow to."""
    window = update.get("num_ctx", asked)
    return window if window is not None and window > 0 else most.window


def _keep_alive(asked: KeepAlive | None, most: ClampLimits, notes: list[str]) -> KeepAlive | None:
    if asked is None or keep_alive_seconds(asked) <= keep_alive_seconds(most.keep_alive):
        return asked
    notes.append(
        f"keep_alive lowered from {asked} to {most.keep_alive}, "
        f"the most that {setting_of('keep_alive')} allows"
    )
    return most.keep_alive
