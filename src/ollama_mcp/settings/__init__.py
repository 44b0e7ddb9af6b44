"""Every setting, in one typed place: the environment and one optional TOML file.

The only module that reads the environment. The environment wins over the file; every bad value is
named at once, with what is allowed. docs/settings.md is generated from `FIELDS`.
"""

from __future__ import annotations

from ollama_mcp.settings.declaration import Field
from ollama_mcp.settings.loading import load, load_from_environment, with_default_store
from ollama_mcp.settings.model import FIELDS, Backend, Http, ModelDefaults, Settings, SettingsError, Timeouts

__all__ = [
    "FIELDS",
    "Backend",
    "Field",
    "Http",
    "ModelDefaults",
    "Settings",
    "SettingsError",
    "Timeouts",
    "load",
    "load_from_environment",
    "with_default_store",
]
