"""Values above the operator's limits: lowered to the limit, with a note, never refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ollama_mcp.ollama.api_models import KeepAlive
from ollama_mcp.ollama.parameters import keep_alive_seconds
from ollama_mcp.services.specs import GenerationRequest
from ollama_mcp.settings import Settings
from ollama_mcp.settings.limits import setting_of


@dataclass(frozen=True)
class ClampLimits:
    """The limits of a caller for one model.

        limits = clamp_limits(settings, "qwen3:8b", model_max=40960)
        request, notes = clamp(request, limits)

    Attributes:
        window: The largest num_ctx, in tokens.
        window_is_own: Whether that is the model's own maximum, rather than the operator's limit.
        keep_alive: The longest keep_alive.
    """

    window: int
    window_is_own: bool
    keep_alive: KeepAlive


def clamp_limits(settings: Settings, model: str, model_max: int) -> ClampLimits:
    """Return the limits for a model; a default that the operator set is allowed to everybody.

    Args:
        settings: The operator's.
        model: Its name.
        model_max: The most tokens that it was made for; 0 where unknown.
    """
    defaults = settings.defaults_for(model)
    allowed = max(settings.max_context, defaults.options.get("num_ctx", 0))
    window = min(model_max or allowed, allowed)
    longest = settings.limits.keep_alive
    if defaults.keep_alive is not None:
        longest = max(longest, defaults.keep_alive, key=keep_alive_seconds)
    return ClampLimits(window, window == model_max, longest)


def clamp(request: GenerationRequest, limits: ClampLimits) -> tuple[GenerationRequest, list[str]]:
    """Return the request within the limits, and a note for each value that was above.

    A negative num_predict is no number of tokens: it says that the model ends by itself.
    """
    notes: list[str] = []
    update: dict[str, Any] = {}
    options, keep_alive = request.options, request.keep_alive
    if options is not None:
        changed: dict[str, int] = {}
        # Where no call chose the window, it can grow to the limit.
        window = options.num_ctx if options.num_ctx is not None and options.num_ctx > 0 else limits.window
        if options.num_ctx is not None and options.num_ctx > limits.window:
            whose = f"the most that {setting_of('context')} allows"
            if limits.window_is_own:
                whose = "the model's maximum"
            changed["num_ctx"] = window = limits.window
            notes.append(f"num_ctx lowered from {options.num_ctx} to {window}, {whose}")
        if options.num_predict is not None and options.num_predict > window:
            changed["num_predict"] = window
            notes.append(f"num_predict lowered from {options.num_predict} to {window}, the window")
        update["options"] = options.model_copy(update=changed)
    if keep_alive is not None and keep_alive_seconds(keep_alive) > keep_alive_seconds(limits.keep_alive):
        update["keep_alive"] = limits.keep_alive
        notes.append(
            f"keep_alive lowered from {keep_alive} to {limits.keep_alive}, "
            f"the most that {setting_of('keep_alive')} allows"
        )
    return (request.model_copy(update=update), notes) if notes else (request, notes)
