"""The machine as other programs see it: its system, and the folders where they keep their settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A user's machine.

    Attributes:
        system: As `sys.platform` names it: linux, darwin or win32.
        home: The user's home.
        variables: Environment variables.

    >>> Machine("linux", Path("/home/ann"), {}).folder("data").as_posix()
    '/home/ann/.config'
    """

    system: str = sys.platform
    home: Path = field(default_factory=Path.home)
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def folder(self, name: str) -> Path:
        """Return a folder by its name.

        Args:
            name: `home`; `data`, where desktop programs keep settings on this system; `xdg`, where programs
                from Linux keep them on every system; `local`, Windows' folder that does not roam; or
                `VARIABLE:PATH`, the variable's folder, or this one below home where it is not set.
        """
        variable, _, default = name.partition(":")
        if name == "home":
            return self.home
        if name == "data" and self.system == "darwin":
            return self.home / "Library" / "Application Support"
        windows = {"data": ("APPDATA", "AppData/Roaming"), "local": ("LOCALAPPDATA", "AppData/Local")}
        if name in windows and self.system == "win32":
            variable, default = windows[name]
        elif name in {"data", "xdg"}:
            variable, default = "XDG_CONFIG_HOME", ".config"
        return Path(self.variables.get(variable) or self.home / default)
